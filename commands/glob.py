"""Key patterns as Redis has them: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before what stands for itself.

A pattern becomes a regular expression whose parts between stars are each found once and not tried elsewhere
again: the first place where a part fits is as good as any later one, but for the last part, which must be at
the end. So a match takes at most the key's length times the pattern's, whatever stars the pattern has.
"""

from __future__ import annotations

import re
from collections.abc import Callable

ANY_BYTE = frozenset(range(256))
STAR, ONE, BACKSLASH, OPEN, CLOSE, NOT, TO = b"*?\\[]^-"
Element = frozenset[int] | None  # the bytes that fit at one place; None is a star


class Glob:
    __slots__ = ("_before_star", "fits")

    def __init__(self, text: bytes) -> None:
        elements = _elements(text)
        self.fits = _compiled(elements)  # of a key; None when it does not
        self._before_star = _compiled(elements[:-1]) if elements[-1:] == [None] else None

    def matches(self, key: bytes) -> bool:
        return self.fits(key) is not None

    def covers(self, prefix: bytes) -> bool:
        """Whether each key that begins with `prefix` matches. Errs on the side of no.

        The pattern ends in a star, and what stands before that matches some beginning of `prefix`.
        """
        fits = self._before_star
        if fits is None:
            return False
        return any(fits(prefix[:end]) is not None for end in range(len(prefix) + 1))


def _elements(text: bytes) -> list[Element]:
    found: list[Element] = []
    at = 0
    while at < len(text):
        byte = text[at]
        if byte == STAR:
            if not found or found[-1] is not None:
                found.append(None)
        elif byte == ONE:
            found.append(ANY_BYTE)
        elif byte == OPEN:
            members, at = _class(text, at + 1)
            found.append(members)
        else:
            if byte == BACKSLASH and at + 1 < len(text):
                at += 1
            found.append(frozenset((text[at],)))
        at += 1
    return found


def _class(text: bytes, at: int) -> tuple[frozenset[int], int]:
    """The class that begins behind `[`, and where its `]` is; the pattern's end closes it as well."""
    is_negated = text[at : at + 1] == b"^"
    at += is_negated
    members: set[int] = set()
    while at < len(text) and text[at] != CLOSE:
        if text[at] == BACKSLASH and at + 1 < len(text):
            at += 1
            members.add(text[at])
        elif at + 2 < len(text) and text[at + 1] == TO:
            low, high = sorted((text[at], text[at + 2]))
            members.update(range(low, high + 1))
            at += 2
        else:
            members.add(text[at])
        at += 1
    return (ANY_BYTE - members if is_negated else frozenset(members)), at


def _compiled(elements: list[Element]) -> Callable[[bytes], re.Match[bytes] | None]:
    parts: list[list[Element]] = [[]]
    for element in elements:
        if element is None:
            parts.append([])
        else:
            parts[-1].append(element)
    head, *middle = (b"".join(map(_expression, part)) for part in parts)
    last = b".*" + middle.pop() if middle else b""
    source = head + b"".join(b"(?>.*?%b)" % part for part in middle) + last
    return re.compile(source, re.DOTALL).fullmatch


def _expression(members: Element) -> bytes:
    assert members is not None
    if members == ANY_BYTE:
        return b"."
    if not members:
        return b"(?!)"
    if len(members) == 1:
        return re.escape(bytes(members))
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(members))
