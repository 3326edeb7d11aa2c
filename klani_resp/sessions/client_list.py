"""A line of CLIENT LIST, with the fields of Redis 7.4 in their order: 0 is for what does not exist here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klani_resp.sessions.session import Session


def client_line(session: Session, command: str) -> str:
    """One string with all in it, and no table of names and values: thousands of lines are made at once."""
    transaction, transport = session.transaction, session.transport
    queue, transaction_bytes = transaction.queue, transaction.memory_bytes
    input_bytes, output_bytes = session.input_bytes, session.line.waiting_bytes()
    flags = "O" * session.is_monitor + "x" * session.in_transaction + "U" * transport.is_unix
    return (
        f"id={session.id} addr={transport.address} laddr={transport.local_address} fd={transport.fd} "
        f"name={_text(session.name)} age={session.age_seconds} "
        f"idle={int(time.monotonic() - session.used_at)} "
        f"flags={flags or 'N'} db=0 sub=0 psub=0 ssub=0 multi={-1 if queue is None else len(queue)} "
        f"watch={transaction.watched} qbuf={input_bytes} qbuf-free=0 argv-mem=0 "
        f"multi-mem={transaction_bytes} rbs=0 rbp=0 obl={output_bytes} oll=0 omem={output_bytes} "
        f"tot-mem={input_bytes + output_bytes + transaction_bytes} events=r cmd={command or 'NULL'} "
        f"user={_text(session.user_name)} redir=-1 resp={session.protocol} "
        f"lib-name={_text(session.library_name)} lib-ver={_text(session.library_version)} "
        f"tot-cmds={session.commands_done}"
    )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
