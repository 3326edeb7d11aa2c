"""Replies that do not go out as they are: CLIENT REPLY OFF and SKIP, and MONITOR's lines of its own session.

A session with any of these looks its commands up in a table of its own: the others pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING

from commands.spec import Context, Mute
from klani_resp.sessions.compiler import Run

if TYPE_CHECKING:
    from klani_resp.sessions.session import Session


class AlteredTable(dict[bytes, Run]):
    """The session's table, with replies as they are to go out. Itself empty."""

    def __init__(self, table: Mapping[bytes, Run], session: Session) -> None:
        super().__init__()
        self._table = table
        self._session = session

    def __missing__(self, name: bytes) -> Run:
        run, session = self._table[name], self._session

        def altered(context: Context, argv: list[bytes]) -> bytes:
            if session.muted is Mute.SKIP:
                session.muted = Mute.SKIPPING
            return shown(session, run(context, argv))

        return update_wrapper(altered, run, (), ())  # for `Dispatcher.name_of`, and no more than that


def shown(session: Session, reply: bytes) -> bytes:
    """What goes out at a command's end. Lines of MONITOR about it stand behind its reply, as in Redis."""
    lines, session.line.aside = session.line.aside, b""
    if session.muted is Mute.SKIPPING:  # and it was no CLIENT REPLY itself
        session.mute(None)
        return b""
    if session.muted is Mute.OFF:
        return b""
    return reply + lines if lines else reply  # which may be large, and is not to be copied
