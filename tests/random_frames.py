"""What clients may send, good and bad, from a seed: commands that Redis has as well, and what is none."""

from __future__ import annotations

from random import Random

from tests.conftest import frame

NUMBERS = [b"0", b"1", b"-1", b"2", b"3", b"4", b"16", b"99", b"00", b"-0", b"+1", b"1.5", b"x", b""]
NUMBERS += [b"2147483647", b"2147483648", b"-2147483649", b"9223372036854775808", b"9" * 30, b" 1", b"1 "]
TEXTS = [b"", b"a", b"abc", b"a b", b"a\r\nb", b"\0", b"\xff\xfe", b"'", b'"', b"x" * 40, b"y" * 300, b"n\n"]
NAMES = [b"me", b"a b", b"", b"\x01", b"caf\xc3\xa9", b"x" * 100]
WORDS: list[list[bytes]] = [
    [b"PING"],
    [b"ECHO"],
    [b"HELLO"],
    [b"SELECT"],
    [b"CLIENT"],
    [b"CLIENT", b"ID"],
    [b"CLIENT", b"GETNAME"],
    [b"CLIENT", b"SETNAME"],
    [b"CLIENT", b"INFO"],
    [b"CLIENT", b"LIST"],
    [b"CLIENT", b"NO-EVICT"],
    [b"CLIENT", b"NOPE"],
    [b"CONFIG"],
    [b"CONFIG", b"NOPE"],
    [b"CONFIG", b"GET", b"nothing-of-this-name"],
    [b"DBSIZE"],
    [b"TIME"],
    [b"INFO"],
    [b"MULTI"],
    [b"EXEC"],
    [b"DISCARD"],
    [b"WATCH"],
    [b"UNWATCH"],
    [b"RESET"],
    [b"QUIT"],
    [b"AUTH"],
    [b"NOPE"],
    [b"no.such"],
    [b"N\0OPE"],
    [b""],
]
COUNTS = [b"-1", b"0", b"01", b"+1", b"x", b"", b"2147483647", b"2147483648", b"-2147483648", b"1" * 25]
LENGTHS = [b"-1", b"0", b"3", b"5", b"04", b"+4", b"x", b"", b"536870913", b"4294967296", b"9" * 25]
BYTES = b"\r\n*$:+-_ \"'\\\0\xff019aP"
FOREIGN = [b"POST / HTTP/1.1\r\n", b"Host: example\r\n", b"host: x\r\n", b"post\r\n"]
EMPTY = [b"\r\n", b"\n", b"*0\r\n", b"*-1\r\n", b"*-7\r\n", b"   \r\n", b"\0\r\n"]


def words_of(rng: Random) -> list[bytes]:
    """A request, with as many arguments as it may have, or not."""
    words = list(rng.choice(WORDS))
    if rng.random() < 0.3:
        words[0] = words[0].lower()
    if words[0].upper() == b"HELLO" and rng.random() < 0.6:
        words.append(rng.choice([b"2", b"3", b"3", b"4", b"03"]))
        for _ in range(rng.randrange(3)):
            words += rng.choice(
                [
                    [b"SETNAME", rng.choice(NAMES)],
                    [b"AUTH", b"default", b""],
                    [b"AUTH", b"nobody", b"x"],
                    [b"AUTH"],
                    [b"NOPE"],
                ]
            )
        return words
    if words[0].upper() == b"SELECT" and rng.random() < 0.8:
        return [*words, rng.choice(NUMBERS)]
    while rng.random() < 0.4:
        words.append(rng.choice(rng.choice([NUMBERS, TEXTS, NAMES, [b"on", b"OFF", b"ID", b"lib-name"]])))
    return words


def frame_of(rng: Random) -> bytes:
    kind = rng.random()
    if kind < 0.5:
        return frame(*words_of(rng))
    if kind < 0.6:
        return transaction(rng)
    if kind < 0.75:
        return inline(rng)
    if kind < 0.78:
        return rng.choice(EMPTY)
    if kind < 0.79:
        return rng.choice(FOREIGN)
    return mutated(rng, frame(*words_of(rng)))


def transaction(rng: Random) -> bytes:
    inside = [words_of(rng) for _ in range(rng.randrange(4))]
    return b"".join(frame(*words) for words in ([b"MULTI"], *inside, [rng.choice([b"EXEC", b"DISCARD"])]))


def inline(rng: Random) -> bytes:
    """Words with and without quotes, with bytes of any kind now and then."""
    quotes = ["%s", '"%s"', "'%s'", '"%s', "'%s", '%s"', '"%s"x', '"\\x41\\n%s"', "'\\'%s'", "%s\\", '""%s']
    words = [word.decode("latin-1") for word in words_of(rng)]
    words = [
        word if i == 0 or rng.random() < 0.6 else rng.choice(quotes) % word for i, word in enumerate(words)
    ]
    space = rng.choice([" ", " ", "  ", "\t", "\v", "\f", "\r"])
    return space.join(words).encode("latin-1") + rng.choice([b"\r\n", b"\n", b" \r\n"])


def mutated(rng: Random, data: bytes) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return b"*" + rng.choice(COUNTS) + data[data.index(b"\r\n") :]
    if kind == 1:
        at = data.index(b"$")
        return data[: at + 1] + rng.choice(LENGTHS) + data[data.index(b"\r\n", at) :]
    at = rng.randrange(len(data))
    byte = bytes([rng.choice(BYTES)])
    if kind == 2:
        return data[:at] + byte + data[at:]
    if kind == 3:
        return data[:at] + byte + data[at + 1 :]
    if kind == 4:
        return data[:at] + data[at + 1 :]
    return data[:at]  # what comes behind it is taken for its rest


def chunks_of(rng: Random, data: bytes) -> list[bytes]:
    """The same bytes, cut anywhere."""
    cuts = sorted(rng.sample(range(len(data) + 1), min(rng.randrange(4), len(data))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def case_of(seed: int) -> list[bytes]:
    """A pipeline of some frames, in chunks."""
    rng = Random(seed)
    return chunks_of(rng, b"".join(frame_of(rng) for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 8]))))
