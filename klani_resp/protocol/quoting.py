"""Bytes as Redis prints them in a line of MONITOR (`sdscatrepr`): quoted, what is not printable escaped."""

from __future__ import annotations

import re

_NAMED = {
    b"\\": rb"\\",
    b'"': rb"\"",
    b"\n": rb"\n",
    b"\r": rb"\r",
    b"\t": rb"\t",
    b"\a": rb"\a",
    b"\b": rb"\b",
}
_unusual = re.compile(rb'[^ -~]|[\\"]')


def quoted(text: bytes) -> bytes:
    return b'"' + _unusual.sub(lambda found: _NAMED.get(found[0]) or rb"\x%02x" % found[0][0], text) + b'"'
