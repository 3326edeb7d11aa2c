"""Sessions in memory that are somebody's, and what they are answered."""

from __future__ import annotations

from typing import Any

import hiredis

from commands.spec import Job
from klani_resp.app import App
from klani_resp.sessions.session import Session
from tests.conftest import frame
from tests.in_memory import new_app, new_session

NO_AUTH = {"AUTH", "HELLO", "QUIT", "RESET"}
WRONG = "-WRONGPASS invalid username-password pair or user is disabled."
NOAUTH = "-NOAUTH Authentication required."
NO_KEY = "-NOPERM No permissions to access a key"

Word = bytes | str | int


def shop(**settings: Any) -> tuple[App, Session]:
    """Two tables, and the operator, who may do everything."""
    app = new_app(**settings)
    operator = new_session(app)
    if settings.get("requirepass"):
        assert ask(operator, "AUTH", settings["requirepass"]) == "OK"
    for table in ("seats", "concert"):
        assert ask(operator, "KL.CREATE", table, "SCHEMA", "state", "U8", "INDEX", "n", "COUNTER") == "OK"
        assert ask(operator, "KL.INSERT", f"{table}:7", "state", 0, "n", 9) == 1
    return app, operator


def received(session: Session, data: bytes) -> bytes:
    """All that the bytes lead to, turn by turn; jobs are done at once."""
    reply = session.receive(data)
    while session.more or session.job is not None:
        reply += session.receive(b"") if session.job is None else session.finish_job(_outcome(session.job))
    return reply


def _outcome(job: Job) -> Any:
    if job.start is not None:
        job.start()
    try:
        return job.run()
    except Exception as error:
        return error


def replies(session: Session, data: bytes) -> list[Any]:
    """As a client has them; errors are text that begins with `-`."""
    told: Any = "-{}".format  # in place of an exception
    reader = hiredis.Reader(replyError=told, encoding="utf-8", errors="surrogateescape")
    reader.feed(received(session, data))
    found: list[Any] = []
    while (reply := reader.gets()) is not False:
        found.append(reply)
    return found


def ask(session: Session, *words: Word) -> Any:
    """None stands for no answer, too: SHUTDOWN's."""
    (reply,) = replies(session, frame(*words)) or (None,)
    return reply


def login(app: App, name: str, password: str = "pw") -> Session:
    session = new_session(app)
    assert ask(session, "AUTH", name, password) == "OK"
    return session


def user(app: App, operator: Session, *rules: Word, name: str = "ann") -> Session:
    """A session of a new user with these rules."""
    assert ask(operator, "ACL", "SETUSER", name, "reset", "on", ">pw", *rules) == "OK"
    return login(app, name)


def denied(session: Session, *words: Word) -> bool:
    """Whether it is for want of permission that this is refused, and no command or key slips by."""
    reply = ask(session, *words)
    return isinstance(reply, str) and reply.startswith(("-NOPERM ", "-NOAUTH "))
