"""KL.BACKUP: a copy of the store that a server can start from."""

from __future__ import annotations

from pathlib import Path

from commands.spec import Arg, CommandError, Context, Flags, Job, Page, Reply, command
from storage.backup import Backup, backup_name


@command(
    "KL.BACKUP",
    summary="Makes a consistent copy of all tables under the server's --backup-dir; answers its path.",
    syntax="<name>",
    args=(("name", Arg.BYTES),),
    reply=Reply.ANY,
    flags=Flags.ADMIN | Flags.NO_MULTI,
    group="server",
    complexity="O(rows), beside the other commands",
    page=Page(
        text=("A server that is pointed at the copy starts from it; `klani-resp check` verifies it."),
        arguments={"<name>": "of the new directory, without `/` or a leading dot"},
        answers=(
            (
                "bulk",
                "the copy's path",
            ),
        ),
        errors={
            "EXISTS": "there is a backup, or anything else, of that name",
            "ERR": "no `backup_dir`, an invalid name, no room, a copy that was found damaged",
        },
    ),
)
def backup(context: Context, name: bytes) -> Job:
    folder = context.server.settings.shown()["backup_dir"]
    if not folder:
        raise CommandError("ERR no backups here: the server was started without --backup-dir")
    made = Backup(context.engine, Path(folder), backup_name(name))
    job = Job(run=made.run, finish=made.finish, exclusive=True)

    def start() -> None:
        made.start()
        job.position = made.position

    job.start = start
    return job
