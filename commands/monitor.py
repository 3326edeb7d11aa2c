"""MONITOR: every command of everybody, as it is carried out."""

from __future__ import annotations

from commands.spec import Context, Flags, Page, Reply, command


@command(
    "MONITOR",
    summary="Sends a line for each command of any client from here on, until RESET or the end.",
    reply=Reply.STATUS,
    flags=Flags.ADMIN | Flags.LOADING | Flags.NO_MULTI | Flags.CONNECTION,
    group="server",
    page=Page(
        text=(
            "A line is unix time, database, the client's address and the quoted words; passwords are left "
            "out, and so are commands of operators. It comes when the command has been carried out. While "
            "somebody monitors each command costs some microseconds more; else nothing."
        ),
        partly="lines of operators' commands, and of what was refused before it was carried out",
    ),
)
def monitor(context: Context) -> str:
    context.server.monitor(context.client, is_on=True)
    return "OK"
