"""SHUTDOWN: the end, as SIGTERM brings it."""

from __future__ import annotations

from commands.spec import (
    Arg,
    CommandError,
    Context,
    Flags,
    Page,
    RawReply,
    command,
    syntax_error,
)

WORDS = {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}


@command(
    "SHUTDOWN",
    summary=(
        "Answers what was received, makes a last checkpoint (unless NOSAVE: the next start reads the log "
        "instead, nothing is lost) and ends with status 0. No reply on success. NOW and FORCE are taken, and "
        "change nothing: there are no replicas to wait for. ABORT always comes too late."
    ),
    syntax="[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
    args=(("words", Arg.REST),),
    flags=Flags.ADMIN | Flags.NO_MULTI | Flags.LOADING | Flags.CONNECTION,
    group="server",
    page=Page(
        partly="ABORT always comes too late",
        arguments={
            "NOSAVE": "without a last checkpoint: the next start reads the log instead",
            "SAVE": "with one, as without any word",
            "NOW": "taken, and changes nothing",
            "FORCE": "taken, and changes nothing",
            "ABORT": "refused: it comes too late",
        },
        answers=(
            (
                "nothing",
                "the connection closes",
            ),
        ),
        errors={"ERR": "syntax; ABORT"},
    ),
)
def shutdown(context: Context, words: list[bytes]) -> RawReply:
    asked = {word.upper() for word in words}
    if asked - WORDS or asked >= {b"SAVE", b"NOSAVE"} or (b"ABORT" in asked and len(asked) > 1):
        raise syntax_error()
    if b"ABORT" in asked:
        raise CommandError("ERR No shutdown in progress.")
    context.server.control.shut_down(with_checkpoint=b"NOSAVE" not in asked)
    context.client.close_after_reply()
    return RawReply()
