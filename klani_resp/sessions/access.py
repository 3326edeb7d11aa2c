"""Who is whom: logins, users and their views, what sessions may do from now on (AccessControl)."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from commands.access import permissions
from commands.spec import Client, Command, CommandError, Flags, Job, Status, Unordered
from klani_resp.acl.file import read, write
from klani_resp.acl.guard import UserGuard
from klani_resp.acl.log import AccessLog
from klani_resp.acl.users import DEFAULT, User, Users, UsersError
from klani_resp.config import Config, ConfigError
from klani_resp.protocol.parser import ParserLimits
from klani_resp.sessions.dispatcher import View

if TYPE_CHECKING:
    from klani_resp.app import App
    from klani_resp.sessions.session import Session

log = logging.getLogger("klani_resp")
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
NO_FILE = (
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL "
    "SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in "
    "order to store users in the Redis configuration."
)
NOT_SAVED = (
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information"
)
NOTHING_CHANGED = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
DENIED = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set "
    b"for the default user. In this mode connections are only accepted from the loopback interface. To "
    b"connect from elsewhere give the default user a password (requirepass, ACL SETUSER, an ACL file), or "
    b"start the server with --protected-mode no where nobody else can reach it.\r\n"
)


class AccessError(ConfigError):
    """Users cannot be taken from the settings; the text says what is wrong and where."""


class Access:
    def __init__(self, app: App) -> None:
        self._app = app
        self._commands: Mapping[str, Command] = app.dispatcher.commands
        self._users = Users(permissions(self._commands.values()))
        self._views: dict[User, View] = {}
        self.log = AccessLog()
        config = app.config
        self._required = ""  # `requirepass`, as it was taken last
        self._before_auth = ParserLimits(
            config.before_auth_arguments_max,
            config.before_auth_bulk_bytes_max,
            config.before_auth_arguments_max * config.before_auth_bulk_bytes_max,
            is_before_auth=True,
        )

    def configure(self) -> None:
        """Users as the settings have them: at the start. Raises AccessError."""
        config = self._app.config
        try:
            if config.requirepass:
                self._required = config.requirepass
                self._users.require_password(config.requirepass.encode())
            if config.users and config.acl_file:
                raise UsersError("users are in the settings or in acl_file, not in both")
            lines = "\n".join(f"user {line}" for line in config.users).encode()
            if config.acl_file:
                lines = read(Path(config.acl_file))
            self._users.replace(self._users.parsed(lines, config.acl_file or "users"))
        except (UsersError, OSError) as error:
            raise AccessError(str(error)) from error

    def retune(self) -> None:
        """The limits have changed."""
        for session in self._app.sessions.values():
            self._log_in(session, session.user)

    def require(self, config: Config) -> None:
        """The default user's password, if the setting was changed; until then that user is as ACL has it."""
        if config.requirepass != self._required:
            self._follow({self._users.require_password(config.requirepass.encode())})
            self._required = config.requirepass

    def as_settings(self) -> tuple[str, ...]:
        """All users as `users` has them; none where they are in a file of their own, as in Redis.

        The default user is left out where a start without it would make the same one.
        """
        if self._app.config.acl_file:
            return ()
        users, fresh = dict(self._users.lines()), Users(self._users.known)
        if self._required:
            fresh.require_password(self._required.encode())
        if users[DEFAULT] == fresh.lines()[DEFAULT]:
            del users[DEFAULT]
        try:
            return tuple(line.removeprefix(b"user ").decode() for line in users.values())
        except UnicodeDecodeError as error:
            raise CommandError(f"ERR Rewriting config file: a user has what is not UTF-8: {error}") from error

    # --- sessions -------------------------------------------------------------------------------------

    def welcome(self, session: Session) -> None:
        """One that has just come: it is the default user's if that needs no password."""
        default = self._users.default
        self._log_in(session, default if default.needs_no_password else None)

    def _log_in(self, session: Session, user: User | None) -> None:
        if user is None:
            session.log_in(None, self._app.dispatcher.nobody, self._before_auth)
        else:
            session.log_in(user, self._view_of(user), self._app.limits)

    def _view_of(self, user: User) -> View:
        """Made at its first login: a file may name thousands who never come."""
        view = self._views.get(user)
        if view is None:
            guard = self._guard_of(user)
            dispatcher = self._app.dispatcher
            view = self._views[user] = dispatcher.full if guard.is_idle else dispatcher.view(guard)
        return view

    def _guard_of(self, user: User) -> UserGuard:
        return UserGuard(user.name, user.rules, self._app.config.default_table.encode(), self.log)

    def _follow(self, changed: set[User]) -> None:
        """After a change of their rules: the view of each session of theirs is as they are now."""
        self._views = {user: view for user, view in self._views.items() if user not in changed}
        default = self._users.default
        for session in self._app.sessions.values():
            if session.user in changed:
                self._log_in(session, session.user)
            elif session.user is None and default.needs_no_password:
                self._log_in(session, default)

    def _end(self, users: set[User], asked_by: Client) -> None:
        """Of users that are no more: nothing of theirs is executed, and all but the asker are cut off."""
        self._views = {user: view for user, view in self._views.items() if user not in users}
        for session in list(self._app.sessions.values()):
            if session.user in users:
                self._log_in(session, None)
                if session is asked_by:
                    session.close_after_reply()
                else:
                    session.end()

    def refuses(self, host: str) -> bool:
        """Protected mode: whether a client from this address is not served; "" is a unix socket's."""
        if not self._app.config.protected_mode or not self._users.default.rules.needs_no_password:
            return False
        if not host:
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return not (mapped or address).is_loopback

    # --- commands.access.AccessControl ----------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._users.default.rules.needs_no_password

    def authenticate(self, client: Client, name: bytes, password: bytes) -> None:
        user = self._users.authenticated(name, password)
        if user is None:
            self.log.add("auth", "toplevel", b"AUTH", name[:128], client)
            raise CommandError(WRONG_PASSWORD)
        self._log_in(cast("Session", client), user)

    def is_known(self, client: Client) -> bool:
        return cast("Session", client).user is not None

    def reset(self, client: Client) -> None:
        self.welcome(cast("Session", client))

    def sees(self, client: Client, table: bytes) -> bool:
        user = cast("Session", client).user
        guard = None if user is None else self._view_of(user).guard
        return guard.sees(table) if isinstance(guard, UserGuard) else user is not None

    def set_user(self, name: bytes, rules: list[bytes]) -> None:
        try:
            user = self._users.change(name, rules)
        except UsersError as error:
            raise CommandError(f"ERR {error}") from error
        self._follow({user})

    def delete_users(self, names: list[bytes], asked_by: Client) -> int:
        try:
            gone = self._users.delete(names)
        except UsersError as error:
            raise CommandError(f"ERR {error}") from error
        self._end(gone, asked_by)
        return len(gone)

    def describe(self, name: bytes) -> dict[str, Any] | None:
        user = self._users.get(name)
        if user is None:
            return None
        rules = user.rules
        return {
            "flags": Unordered(rules.flags()),
            "passwords": list(rules.hashes),
            "commands": rules.command_rules(),
            "keys": b" ".join(rules.keys()),
            "channels": b" ".join(b"&" + one for one in rules.channels),
            "selectors": [],
        }

    def lines(self) -> Mapping[bytes, bytes]:
        return self._users.lines()

    def refusal_of(self, name: bytes, argv: list[bytes]) -> str | None:
        user, command = self._users.get(name), self._find(argv[0])
        if user is None:
            raise CommandError(f"ERR User '{_shown(name)}' not found")
        if command is None or (command.family and len(argv) > 1 and command.family.get(argv[1]) is None):
            raise CommandError(f"ERR Command '{_shown(argv[0])}' not found")
        if not abs(command.arity) <= len(argv) or (command.arity > 0 and len(argv) > command.arity):
            raise CommandError(f"ERR wrong number of arguments for '{command.name.lower()}' command")
        if command.family is not None and len(argv) > 1:
            command.family.find(argv[1:])  # its arity
        guard = self._guard_of(user)
        is_ready = not self._app.is_loading or bool(command.flags & Flags.LOADING)
        check = guard.check(command, with_keys=is_ready)
        denial = None if check is None else check(self._app.engine, argv)
        return None if denial is None else guard.told(denial)

    def _find(self, name: bytes) -> Command | None:
        return self._commands.get(name.decode("utf-8", "surrogateescape").upper())

    def log_entries(self, count: int) -> list[dict[str, Any]]:
        return self.log.entries(count)

    def reset_log(self) -> None:
        self.log.clear()

    # --- the ACL file ---------------------------------------------------------------------------------

    def load(self, asked_by: Client) -> Job:
        path = self._path()

        def run() -> bytes:
            try:
                return read(path)
            except OSError as error:
                raise CommandError(f"ERR ACL LOAD: {path}: {error.strerror or error}") from error

        return Job(run=run, finish=lambda text: self._loaded(text, str(path), asked_by))

    def _loaded(self, text: bytes, source: str, asked_by: Client) -> Status:
        try:
            found = self._users.parsed(text, source)
        except UsersError as error:
            raise CommandError(f"ERR {error} {NOTHING_CHANGED}") from error
        changed, gone = self._users.replace(found)
        self._follow(changed)
        self._end(gone, asked_by)
        return Status("OK")

    def save(self) -> Job:
        path, text = self._path(), b"".join(line + b"\n" for line in self._users.lines().values())

        def run() -> None:
            try:
                write(path, text)
            except OSError as error:
                log.warning("ACL SAVE: %s: %s", path, error)
                raise CommandError(NOT_SAVED) from error

        return Job(run=run, finish=lambda outcome: Status("OK"))

    def _path(self) -> Path:
        if not self._app.config.acl_file:
            raise CommandError(NO_FILE)
        return Path(self._app.config.acl_file)


def _shown(name: bytes) -> str:
    return name[:128].decode("utf-8", "surrogateescape")
