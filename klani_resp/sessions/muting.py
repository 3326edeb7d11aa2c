"""CLIENT REPLY OFF and SKIP: commands are carried out and not answered.

A muted session looks its commands up in a table of its own, so that the others pay nothing for this.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING

from commands.spec import Context, Mute
from klani_resp.sessions.compiler import Run

if TYPE_CHECKING:
    from klani_resp.sessions.session import Session


class MutedTable(dict[bytes, Run]):
    """The session's table, with replies left out until the session is mute no more. Itself empty."""

    def __init__(self, table: Mapping[bytes, Run], session: Session) -> None:
        super().__init__()
        self._table = table
        self._session = session

    def __missing__(self, name: bytes) -> Run:
        run, session = self._table[name], self._session

        def muted(context: Context, argv: list[bytes]) -> bytes:
            before = session.muted
            reply = run(context, argv)
            return reply if session.muted is None else quiet(session, before)

        return update_wrapper(muted, run, (), ())  # for `Dispatcher.name_of`, and no more than that


def quiet(session: Session, before: Mute | None) -> bytes:
    """In place of a reply; with it a SKIP that was there before is over."""
    if before is Mute.SKIP and session.muted is Mute.SKIP:
        session.mute(None)
    return b""
