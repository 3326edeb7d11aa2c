"""Inline requests, what a person types into telnet: words with Redis's quoting rules (`sdssplitargs`)."""

from __future__ import annotations

import re

from klani_resp.protocol.errors import ProtocolError

SPACE = frozenset(b" \t\n\v\f\r")  # what `isspace` says: before a word, and behind a closing quote
WORD_END = frozenset(b" \t\n\r")
UNUSUAL = re.compile(rb"[\"'\v\f]").search
ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
HEX = frozenset(b"0123456789abcdefABCDEF")
DOUBLE, SINGLE, BACKSLASH = b"\"'\\"


def split_words(line: bytes) -> list[bytes]:
    """The words of a line without its end. A NUL ends the line, as it does in Redis."""
    line = line.partition(b"\0")[0]
    if not UNUSUAL(line):
        return line.split()
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in SPACE:
            at += 1
        if at == len(line):
            return words
        word, at = _word(line, at)
        words.append(word)


def _word(line: bytes, at: int) -> tuple[bytes, int]:
    """The word that begins at `at`, and where it ends; quotes may open in the middle of a word.

    Not each byte of `SPACE` ends one: `a\\vb` is one word in Redis.
    """
    word = bytearray()
    while at < len(line) and line[at] not in WORD_END:
        if line[at] == DOUBLE:
            at = _double_quoted(line, at + 1, word)
            break
        if line[at] == SINGLE:
            at = _single_quoted(line, at + 1, word)
            break
        word.append(line[at])
        at += 1
    return bytes(word), at


def _double_quoted(line: bytes, at: int, word: bytearray) -> int:
    while at < len(line):
        byte = line[at]
        if byte == DOUBLE:
            return _after_quote(line, at + 1)
        if byte == BACKSLASH and at + 1 < len(line):
            digits = line[at + 2 : at + 4]
            if line[at + 1] == ord("x") and len(digits) == 2 and HEX.issuperset(digits):
                word.append(int(digits, 16))
                at += 4
                continue
            at += 1
            byte = ESCAPES.get(line[at], line[at])
        word.append(byte)
        at += 1
    raise ProtocolError("unbalanced quotes in request")


def _single_quoted(line: bytes, at: int, word: bytearray) -> int:
    while at < len(line):
        byte = line[at]
        if byte == SINGLE:
            return _after_quote(line, at + 1)
        if byte == BACKSLASH and line[at + 1 : at + 2] == b"'":
            at += 1
            byte = SINGLE
        word.append(byte)
        at += 1
    raise ProtocolError("unbalanced quotes in request")


def _after_quote(line: bytes, at: int) -> int:
    """A closing quote must be followed by a space or by nothing."""
    if at < len(line) and line[at] not in SPACE:
        raise ProtocolError("unbalanced quotes in request")
    return at
