"""Rules and patterns as Redis reads them; its texts for those that it does not take."""

from __future__ import annotations

import random
import time

import pytest

from commands.access import CATEGORIES, permissions
from commands.glob import Glob
from commands.registry import load
from klani_resp.acl.rules import RuleError, Rules, hashed
from klani_resp.acl.users import Users, UsersError

KNOWN = permissions(load().values())
NAMES = frozenset(CATEGORIES)


def rules(*words: str) -> Rules:
    made = Rules(KNOWN)
    for word in words:
        made.apply(word.encode(), NAMES)
    return made


# --- patterns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*", ["", "a", "seats:1"], []),
        ("", [""], ["a"]),
        ("seats:*", ["seats:", "seats:1"], ["seat:1", "xseats:1", "Seats:1"]),
        ("seats:?", ["seats:1"], ["seats:", "seats:12"]),
        ("s[ab]t:1", ["sat:1", "sbt:1"], ["sct:1", "st:1"]),
        ("s[^ab]t", ["sct", "s^t"], ["sat", "st"]),
        ("s[a-c]t", ["sbt"], ["sdt", "s-t"]),
        ("s[c-a]t", ["sbt"], ["sdt"]),
        ("s[a", ["sa"], ["s[a", "sb"]),
        ("s[", [], ["s", "s["]),
        ("s[]t", [], ["st", "s]t"]),
        ("s[^]t", ["sat", "s]t"], ["st"]),
        ("s[\\]]t", ["s]t"], ["s\\t"]),
        ("a\\*b", ["a*b"], ["aab", "ab"]),
        ("a\\?", ["a?"], ["ab"]),
        ("a\\", ["a\\"], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("**a**b**", ["ab", "xaxbx"], ["ba"]),
        ("a*b*ab", ["abab", "abbab", "axbxab"], ["ab", "aab"]),
        ("*\n", ["x\n"], ["x"]),
    ],
)
def test_a_pattern_fits(pattern: str, fitting: list[str], others: list[str]) -> None:
    glob = Glob(pattern.encode())
    assert [key for key in fitting if not glob.matches(key.encode())] == []
    assert [key for key in others if glob.matches(key.encode())] == []


def simple(pattern: bytes, key: bytes) -> bool:
    """The definition, with all the time in the world: `*`, `?`, and bytes."""
    if not pattern:
        return not key
    if pattern[:1] == b"*":
        return any(simple(pattern[1:], key[at:]) for at in range(len(key) + 1))
    return bool(key) and pattern[:1] in (b"?", key[:1]) and simple(pattern[1:], key[1:])


def test_patterns_fit_as_defined() -> None:
    rng = random.Random(7)
    fits = 0
    for _ in range(20_000):
        pattern = bytes(rng.choices(b"ab?*", k=rng.randrange(7)))
        key = bytes(rng.choices(b"ab", k=rng.randrange(9)))
        assert Glob(pattern).matches(key) == simple(pattern, key), (pattern, key)
        fits += simple(pattern, key)
    assert fits > 2_000


def test_what_covers_a_prefix_fits_all_that_begins_with_it() -> None:
    rng = random.Random(11)
    covered = 0
    for _ in range(20_000):
        pattern = bytes(rng.choices(b"ab?*[]^\\", k=rng.randrange(7)))
        prefix = bytes(rng.choices(b"ab", k=rng.randrange(4)))
        glob = Glob(pattern)
        if glob.covers(prefix):
            covered += 1
            for _ in range(10):
                assert glob.matches(prefix + bytes(rng.choices(b"ab]*", k=rng.randrange(5)))), (
                    pattern,
                    prefix,
                )
    assert covered > 500


@pytest.mark.parametrize(
    ("pattern", "covers"),
    [
        ("*", True),
        ("seats:*", True),
        ("s*", True),
        ("sea??:*", True),
        ("*s:*", True),
        ("seats:1*", False),
        ("seats:?*", False),
        ("seats:\\*", False),
        ("seats:[*", False),
        ("seats", False),
        ("seat:*", False),
        ("seatss*", False),
    ],
)
def test_a_table_is_covered(pattern: str, covers: bool) -> None:
    assert Glob(pattern.encode()).covers(b"seats:") == covers


def test_stars_do_not_multiply_the_work() -> None:
    glob = Glob(b"*a" * 120 + b"*b")
    began = time.process_time()
    for _ in range(100):
        assert not glob.matches(b"a" * 140)
    assert time.process_time() - began < 1.0


# --- rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "off resetchannels -@all"),
        ("on nopass ~* &* +@all", "on nopass ~* &* +@all"),
        ("on allkeys allchannels allcommands", "on ~* &* +@all"),
        (">secret", f"off #{hashed(b'secret')} resetchannels -@all"),
        (">secret <secret", "off resetchannels -@all"),
        (">secret nopass", "off nopass resetchannels -@all"),
        ("nopass >secret", f"off #{hashed(b'secret')} resetchannels -@all"),
        (f"#{'0' * 64} !{'0' * 64}", "off resetchannels -@all"),
        ("~concert:* %R~ro:* %w~wo:* %RW~b", "off ~concert:* %R~ro:* %W~wo:* ~b resetchannels -@all"),
        ("%R~a %W~a", "off ~a resetchannels -@all"),
        ("%R~*", "off %R~* resetchannels -@all"),
        ("~a resetkeys ~b", "off ~b resetchannels -@all"),
        ("+@read -kl.scan +config|get", "off resetchannels -@all +@read -kl.scan +config|get"),
        ("+kl.seek -kl.seek +KL.SEEK", "off resetchannels -@all +kl.seek"),
        ("+config|get +config", "off resetchannels -@all +config"),
        ("+@all -@dangerous -@scripting", "off resetchannels +@all -@dangerous -@scripting"),
        ("on >a ~* +@all reset", "off resetchannels -@all"),
        ("on clearselectors sanitize-payload skip-sanitize-payload", "on resetchannels -@all"),
    ],
)
def test_rules_are_told_as_they_are_in_force(words: str, line: str) -> None:
    made = rules(*words.split())
    assert made.line() == line.encode()
    again = rules(*line.split())
    assert again.line() == made.line()
    assert again.allowed() == made.allowed()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("+nope", "Unknown command or category name in ACL"),
        ("+@nope", "Unknown command or category name in ACL"),
        ("+config|nope", "Unknown command or category name in ACL"),
        ("+kl.seek|x", "Unknown command or category name in ACL"),
        ("+", "Unknown command or category name in ACL"),
        ("+@", "Unknown command or category name in ACL"),
        ("+config|get|x", "Allowing first-arg of a subcommand is not supported"),
        ("zzz", "Syntax error"),
        ("%~x", "Syntax error"),
        ("%X~x", "Syntax error"),
        ("%RR~x", "Syntax error"),
        ("%wW~x", "Syntax error"),
        ("(+@all", "Syntax error"),
        ("~" + "x" * 256, "Syntax error"),
        ("#12", "The password hash must be exactly 64 characters and contain only lowercase hexadecimal "),
        ("#" + "A" * 64, "The password hash must be exactly 64 characters"),
        ("!12", "The password hash must be exactly 64 characters"),
        ("<nope", "The password you are trying to remove from the user does not exist"),
        (f"!{'0' * 64}", "The password you are trying to remove from the user does not exist"),
        ("allkeys ~x", "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid"),
        ("allchannels &x", "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid"),
    ],
)
def test_what_is_no_rule(words: str, text: str) -> None:
    with pytest.raises(RuleError) as caught:
        rules(*words.split())
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("word", [b"~a b", b"~a\0", b"&a b"])
def test_patterns_have_no_spaces(word: bytes) -> None:
    with pytest.raises(RuleError, match="Syntax error"):
        Rules(KNOWN).apply(word, NAMES)


def test_later_rules_count() -> None:
    assert rules("+@all").allowed() == frozenset(KNOWN)
    assert rules().allowed() == frozenset()
    assert rules("+@all", "-@all").allowed() == frozenset()
    assert rules("+config|get").allowed() == {"config|get"}
    config = {name for name in KNOWN if name.startswith("config|")}
    assert rules("+config", "-config|get").allowed() == config - {"config|get"}
    assert rules("+@selling").allowed() == {
        *("kl.claim", "kl.hold", "kl.confirm", "kl.release", "kl.extend", "kl.return")
    }
    safe = rules("+@all", "-@dangerous").allowed()
    assert "kl.seek" in safe and "acl|whoami" in safe and "client|setname" in safe
    assert safe.isdisjoint(
        {
            "kl.drop",
            "kl.backup",
            "kl.verify",
            "config|get",
            "config|set",
            "acl|setuser",
            "client|list",
            "info",
        }
    )
    assert "kl.drop" in rules("+@all", "-@dangerous", "+kl.drop").allowed()
    assert "config|set" not in rules("+@connection", "+@fast", "+@read", "+@write").allowed()


def test_each_category_of_a_command_is_one() -> None:
    assert set().union(*KNOWN.values()) <= NAMES
    assert all({"fast", "slow"} & found for found in KNOWN.values())


# --- users --------------------------------------------------------------------------------------------


def test_passwords() -> None:
    users = Users(KNOWN)
    users.change(b"ann", [b"on", b">one", b">two"])
    users.change(b"off", [b"off", b">one"])
    users.change(b"free", [b"on", b"nopass"])
    for name, password, is_right in [
        (b"ann", b"one", True),
        (b"ann", b"two", True),
        (b"ann", b"", False),
        (b"ann", b"One", False),
        (b"ann", hashed(b"one").encode(), False),
        (b"Ann", b"one", False),
        (b"off", b"one", False),
        (b"free", b"whatever", True),
        (b"nobody", b"", False),
        (b"default", b"x", True),
    ]:
        assert (users.authenticated(name, password) is not None) == is_right, (name, password)


def test_a_refused_change_changes_nothing() -> None:
    users = Users(KNOWN)
    users.change(b"ann", [b"on", b"~a"])
    before = users.lines()[b"ann"]
    for words in ([b"off", b"+nope"], [b"resetkeys", b">pw", b"~a b"]):
        with pytest.raises(UsersError):
            users.change(b"ann", words)
    assert users.lines()[b"ann"] == before
    with pytest.raises(UsersError, match="Usernames can't contain spaces or null characters"):
        users.change(b"a b", [])
    with pytest.raises(UsersError, match="The 'default' user cannot be removed"):
        users.delete([b"ann", b"default"])
    assert users.lines()[b"ann"] == before


def test_what_is_wrong_in_a_file_shows_no_password() -> None:
    users = Users(KNOWN)
    for word in (b"<topsecret", b"#topsecret", b"!topsecret"):
        with pytest.raises(UsersError) as caught:
            users.parsed(b"user ann " + word, "users.acl")
        assert "topsecret" not in str(caught.value)


def test_the_lines_of_all_users_make_the_same_users() -> None:
    users = Users(KNOWN)
    users.change(b"ann", [b"on", b">pw", b"~concert:*", b"+@selling", b"-kl.return"])
    users.change(b"bob", [b"nopass", b"%R~*", b"+@read"])
    text = b"\n".join(users.lines().values())
    other = Users(KNOWN)
    other.change(b"gone", [b"on"])
    _, gone = other.replace(other.parsed(text, "users.acl"))
    assert [user.name for user in gone] == [b"gone"]
    assert other.lines() == users.lines()


def test_a_file_is_refused_whole_with_its_lines() -> None:
    text = b"user ann on\n\n# a comment\nuser ann off\nuser\nann on\nuser bob +nope >pw\nuser eve on\n"
    with pytest.raises(UsersError) as caught:
        Users(KNOWN).parsed(text, "users.acl")
    said = str(caught.value)
    assert [f"users.acl:{line}:" in said for line in range(1, 9)] == [
        *(False, False, False, True, True, True, True, False)
    ]
