"""What a client can do wrong below the level of commands; after one of these its connection ends."""

from __future__ import annotations


class ProtocolError(Exception):
    """The bytes are no request. The text is Redis's own, word for word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def reply(self) -> bytes:
        return error_reply(f"ERR Protocol error: {self.text}")


class ParserBug(ProtocolError):
    """Not the client's fault: the parser raised what it never should. Its connection ends all the same."""

    def reply(self) -> bytes:
        return INTERNAL_ERROR


class OtherProtocol(ProtocolError):
    """Another protocol's first bytes: no answer that could be taken for one of its own. The text names it."""

    def reply(self) -> bytes:
        return b""


def error_reply(text: str) -> bytes:
    """`-<text>`; bytes that were decoded with `surrogateescape` come out as they went in."""
    line = text.replace("\r", " ").replace("\n", " ")
    return b"-%b\r\n" % line.encode("utf-8", "surrogateescape")


INTERNAL_ERROR = error_reply("ERR internal error")


def shown(raw: bytes) -> str:
    """A client's bytes as part of an error text."""
    return raw[:128].decode("utf-8", "surrogateescape")
