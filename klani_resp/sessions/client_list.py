"""A line of CLIENT LIST, with the fields of Redis 7.4 in their order: 0 is for what does not exist here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klani_resp.sessions.session import Session


def client_line(session: Session, command: str) -> str:
    transaction, transport = session.transaction, session.transport
    input_bytes, output_bytes = session.input_bytes, session.line.waiting_bytes()
    transaction_bytes = transaction.memory_bytes
    flags = "O" * session.is_monitor + "x" * session.in_transaction + "U" * transport.is_unix
    facts: dict[str, Any] = {
        "id": session.id,
        "addr": transport.address,
        "laddr": transport.local_address,
        "fd": transport.fd,
        "name": _text(session.name),
        "age": session.age_seconds,
        "idle": int(time.monotonic() - session.used_at),
        "flags": flags or "N",
        "db": 0,
        "sub": 0,
        "psub": 0,
        "ssub": 0,
        "multi": -1 if transaction.queue is None else len(transaction.queue),
        "watch": transaction.watched,
        "qbuf": input_bytes,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": transaction_bytes,
        "rbs": 0,
        "rbp": 0,
        "obl": output_bytes,
        "oll": 0,
        "omem": output_bytes,
        "tot-mem": input_bytes + output_bytes + transaction_bytes,
        "events": "r",
        "cmd": command or "NULL",
        "user": _text(session.user_name),
        "redir": -1,
        "resp": session.protocol,
        "lib-name": _text(session.library_name),
        "lib-ver": _text(session.library_version),
        "tot-cmds": session.commands_done,
    }
    return " ".join(f"{name}={value}" for name, value in facts.items())


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
