"""Requests out of a byte stream, however it is cut into chunks.

Three roads give the same requests. A chunk that is one small request is split in place. The fast road lets
hiredis (C) parse a whole chunk at once. The careful one is Python, remembers where it stopped, knows inline
commands and Redis's error texts.

Invariants:
1. A chunk goes the first two roads only from a request boundary on, and only what hiredis and Redis read
   alike comes out of them; all else is read again, carefully, from the first byte that was not understood.
2. Nothing is kept for a length that a header only announces: a limit is judged when its header is there.
3. A byte costs O(1), whatever chunk brings it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import hiredis

from klani_resp.protocol.errors import OtherProtocol, ProtocolError
from klani_resp.protocol.inline import split_words

Request = list[bytes]

HEADER_BYTES_MAX = 64 * 1024
# hiredis reserves memory for all the elements that a header announces: five digits go the careful road.
announces_much = re.compile(rb"\*[0-9]{5}").search
# Types that hiredis gives out as bytes or list though they are neither `$` nor `*`. A chunk with one of these
# bytes in it, a header's or a value's, is held against what its requests are on the wire. To delete and
# compare lengths costs 24 ns per pipelined command. (Where a header begins cannot be told by the line end
# before it: neither hiredis nor Redis looks at the two bytes behind an argument. Found by the fuzz test.)
LOOKALIKES = b"+(=~>|"
# Behind each chunk: when hiredis gives this number out, it has consumed the chunk to its last byte.
SENTINEL_NUMBER = int.from_bytes(os.urandom(7), "big") | 1 << 59
SENTINEL = b":%d\r\n" % SENTINEL_NUMBER
# A small chunk is mostly one whole request. Split at its line ends and held against the headers that its
# words must have, it costs half of what hiredis and its guards do (1.1 us and 2.5 for KL.SEEK, same run).
SMALL_BYTES_MAX = 128
_PARTS = {b"*%d" % count: 2 * count + 2 for count in range(1, 9)}
_HEADERS = [b"$%d" % length for length in range(SMALL_BYTES_MAX + 1)]
SUBCOMMAND_BYTES_MAX = 64
TLS_HELLO = b"\x16\x03"  # a handshake record, of any version: no command of ours begins so
INT_MAX = (1 << 31) - 1
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch


@dataclass(frozen=True, slots=True)
class ParserLimits:
    arguments_max: int = 4096
    bulk_bytes_max: int = 1 << 20
    request_bytes_max: int = 4 << 20
    is_before_auth: bool = False  # Redis has texts of its own then

    @property
    def fast_bytes_max(self) -> int:
        """In a chunk of so many bytes no request is above a limit: an empty argument is 6 bytes."""
        return min(self.bulk_bytes_max, self.request_bytes_max, 6 * self.arguments_max)


class RequestParser:
    """One connection's parser. `error` is set by the first violation; nothing is read after it."""

    __slots__ = (
        "_careful",
        "_fast_bytes_max",
        "_forbidden",
        "_is_one_by_one",
        "_limits",
        "_small_bytes_max",
        "error",
        "has_more",
    )

    # One for all connections: between two calls it is empty, and one that is not is thrown away.
    _reader: hiredis.Reader = hiredis.Reader()

    def __init__(self, limits: ParserLimits) -> None:
        self._careful: CarefulParser | None = None
        self.error: ProtocolError | None = None
        self.has_more = False  # whole requests may be left: `feed` gives the next one without data
        self.restrict(limits)

    def restrict(
        self, limits: ParserLimits, forbidden: frozenset[bytes] = frozenset(), *, one_by_one: bool = False
    ) -> None:
        """From the next request on: what is too large, and the commands whose arguments are not kept.

        `one_by_one`: a feed gives one request at most, since that may change what is allowed to the next.
        """
        self._limits = limits
        self._forbidden = forbidden
        self._is_one_by_one = one_by_one
        self._fast_bytes_max = 0 if one_by_one else limits.fast_bytes_max
        self._small_bytes_max = min(SMALL_BYTES_MAX, limits.fast_bytes_max)
        if self.has_more and self._careful is not None:
            data = self._careful.rest()
            self._careful = CarefulParser(limits, forbidden)
            self._careful.feed(data)

    @property
    def is_between(self) -> bool:
        """Whether all bytes so far made whole requests."""
        return self._careful is None and self.error is None

    @property
    def begun(self) -> object:
        """While one and the same request has begun and is not whole, one and the same object; else None."""
        return None if self._careful is None else self._careful.stands_for

    @property
    def kept_bytes(self) -> int:
        """Of a request that is not whole."""
        return 0 if self._careful is None else self._careful.kept_bytes

    def feed(self, data: bytes) -> list[Request]:
        """The requests that `data` completes; none is empty."""
        requests: list[Request] = []
        if self._careful is None and self.error is None:
            if len(data) <= self._small_bytes_max:
                parts = data.split(b"\r\n")
                if _PARTS.get(parts[0]) == len(parts) and not parts[-1]:
                    request = parts[2::2]
                    if parts[1:-1:2] == [_HEADERS[len(word)] for word in request]:
                        return [request]
            used = self._fast(data, requests)
            if used == len(data):
                return requests
            data = data[used:]
        if self.error is None:
            try:
                self._feed_carefully(data, requests)
            except ProtocolError as error:
                self.error = error
                self._careful = None
        return requests

    def fail(self, error: ProtocolError) -> None:
        """Nothing more is read. What may be left in the reader that all share is thrown away."""
        RequestParser._reader = hiredis.Reader()
        self.error = error
        self._careful = None
        self.has_more = False

    def _fast(self, data: bytes, requests: list[Request]) -> int:
        """Appends the requests that hiredis finds; answers how many bytes they took."""
        if data[:1] != b"*" or len(data) > self._fast_bytes_max or announces_much(data) is not None:
            return 0
        is_plain = len(data.translate(None, LOOKALIKES)) == len(data)
        part = data
        last = data.rfind(b"\r\n*") + 2  # where the last request begins, as likely as not
        if data[-2:] != b"\r\n" or (last > 1 and _is_cut_short(data[last:])):
            part = data[:last]
            if part[-1:] != b"\n":
                return 0
        reader = self._reader
        reader.feed(part + SENTINEL)
        gets = reader.gets
        join = b"".join
        try:
            request: Any = gets()
            while request and type(request) is list:
                join(request)  # the cheapest test that all of them are bytes (50 ns): TypeError if not
                requests.append(request)
                request = gets()
            if request == SENTINEL_NUMBER:
                if is_plain or on_the_wire(requests) == part:
                    return len(part)
                requests.clear()
                return 0
        except (TypeError, hiredis.HiredisError):
            pass
        RequestParser._reader = hiredis.Reader()
        if not is_plain:
            requests.clear()
            return 0
        used = sum(map(_wire_bytes, requests))
        if used > len(part):  # the last one is cut short, and has taken bytes of the sentinel for its own
            used -= _wire_bytes(requests.pop())
        return used

    def _feed_carefully(self, data: bytes, requests: list[Request]) -> None:
        careful = self._careful
        self.has_more = False
        if careful is not None:
            careful.feed(data)
            request = careful.next()
            if request is None:
                return
            self._careful = None
            if request:
                requests.append(request)
            data = careful.rest()
            found: list[Request] = []
            used = self._fast(data, found)
            requests += found
            if used == len(data):
                return
            data = data[used:]
        careful = CarefulParser(self._limits, self._forbidden)
        careful.feed(data)
        is_one_by_one = self._is_one_by_one
        while not (is_one_by_one and requests) and (request := careful.next()) is not None:
            if request:
                requests.append(request)
        if careful.is_inside:
            self._careful = careful
            self.has_more = is_one_by_one and bool(requests)


def _is_cut_short(tail: bytes) -> bool:
    """Whether a small request ends behind one of its lines, but not the last. To find that out from hiredis
    costs as much as all that came before: it has to be measured then."""
    parts = tail.split(b"\r\n")
    return len(parts) < _PARTS.get(parts[0], 0)


def on_the_wire(requests: list[Request]) -> bytes:
    """The requests as clients send them."""
    return b"".join(
        [
            b"*%d\r\n%b"
            % (len(request), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in request]))
            for request in requests
        ]
    )


def _wire_bytes(request: Request) -> int:
    """How long the request was on the wire: hiredis takes canonical headers only, so there is one answer."""
    return 3 + len(str(len(request))) + sum(5 + len(str(len(word))) + len(word) for word in request)


class CarefulParser:
    """Redis's `processInlineBuffer` and `processMultibulkBuffer`, with its texts.

    Of a command that is forbidden only the name and a short first argument, its subcommand perhaps, are kept;
    the others come out empty.
    """

    __slots__ = (
        *("_at", "_buffer", "_bulk", "_bytes", "_forbidden", "_is_kept", "_limits", "_request", "_searched"),
        *("_wanted", "stands_for"),
    )

    def __init__(self, limits: ParserLimits, forbidden: frozenset[bytes] = frozenset()) -> None:
        self._limits = limits
        self._forbidden = forbidden
        self._is_kept = True  # the argument that comes
        self._buffer = bytearray()
        self._at = 0  # where the unread part begins
        self._searched = 0  # no line end is between `_at` and here
        self._wanted = 0  # arguments still to come
        self._bulk = -1  # length of the argument whose header has been read
        self._request: Request = []
        self._bytes = 0  # of the request's arguments so far
        self.stands_for = object()  # and keeps nothing of it, whoever holds it

    @property
    def is_inside(self) -> bool:
        """Whether a request has begun that is not complete."""
        return self._wanted > 0 or self._at < len(self._buffer)

    @property
    def kept_bytes(self) -> int:
        return len(self._buffer) - self._at + sum(map(len, self._request))

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def rest(self) -> bytes:
        return bytes(self._buffer[self._at :])

    def next(self) -> Request | None:
        """The next request, an empty list for one to be ignored, None when bytes are missing."""
        if self._wanted == 0:
            if self._at == len(self._buffer):
                return None
            if self._buffer[self._at] != ord("*"):
                return self._inline()
            line = self._line("too big mbulk count string")
            if line is None:
                return None
            count = _number(line[1:])
            if count is None or count > self._limits.arguments_max:
                raise ProtocolError(self._too_large(count, "multibulk length"))
            if count <= 0:
                return []
            self._wanted = count
            self._request = []
            self._bytes = 0
        while self._wanted:
            if not self._argument():
                del self._buffer[: self._at]
                self._searched -= self._at
                self._at = 0
                return None
        return self._request

    def _argument(self) -> bool:
        if self._bulk < 0:
            line = self._line("too big bulk count string")
            if line is None:
                return False
            if line[:1] != b"$":
                got = line[:1] or b"\r"
                raise ProtocolError(f"expected '$', got '{got.decode('utf-8', 'surrogateescape')}'")
            length = _number(line[1:])
            limits = self._limits
            if length is None or not 0 <= length <= limits.bulk_bytes_max:
                raise ProtocolError(self._too_large(length, "bulk length"))
            self._bytes += length
            if self._bytes > limits.request_bytes_max:
                raise ProtocolError("invalid bulk length")
            self._bulk = length
            self._is_kept = not self._request or self._keeps(length)
        end = self._at + self._bulk
        if len(self._buffer) < end + 2:
            if not self._is_kept:
                self._drop()
            return False
        self._request.append(bytes(self._buffer[self._at : end]) if self._is_kept else b"")
        self._at = self._searched = end + 2
        self._bulk = -1
        self._wanted -= 1
        return True

    def _keeps(self, length: int) -> bool:
        if not self._forbidden or self._request[0].upper() not in self._forbidden:
            return True
        return len(self._request) == 1 and length <= SUBCOMMAND_BYTES_MAX

    def _drop(self) -> None:
        """What has come of the argument is not needed."""
        dropped = min(len(self._buffer) - self._at, self._bulk)
        self._bulk -= dropped
        self._at += dropped
        self._searched = self._at

    def _too_large(self, number: int | None, what: str) -> str:
        is_a_number = number is not None and 0 <= number <= INT_MAX
        return f"{'unauthenticated' if is_a_number and self._limits.is_before_auth else 'invalid'} {what}"

    def _line(self, too_big: str) -> bytes | None:
        """The header that begins here, without its end; None until both bytes of that end are there."""
        end = self._buffer.find(b"\r", self._searched)
        if (end if end >= 0 else len(self._buffer)) - self._at > HEADER_BYTES_MAX:
            raise ProtocolError(too_big)
        if end < 0 or end + 2 > len(self._buffer):
            self._searched = end if end >= 0 else len(self._buffer)
            return None
        line = bytes(self._buffer[self._at : end])
        self._at = self._searched = end + 2
        return line

    def _inline(self) -> Request | None:
        if self._buffer[self._at : self._at + len(TLS_HELLO)] == TLS_HELLO:
            raise OtherProtocol("TLS")
        end = self._buffer.find(b"\n", self._searched)
        if (end if end >= 0 else len(self._buffer)) - self._at > HEADER_BYTES_MAX:
            raise ProtocolError("too big inline request")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[self._at : end])
        self._at = self._searched = end + 1
        return split_words(line.removesuffix(b"\r"))


def _number(text: bytes) -> int | None:
    """As Redis's string2ll: canonical decimal, no plus, no leading zero."""
    return int(text) if _NUMBER(text) else None
