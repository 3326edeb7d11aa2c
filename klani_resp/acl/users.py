"""All users, and the lines of an ACL file.

Invariants:
1. `default` is always there.
2. Rules are replaced whole: what is refused half-way has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from commands.access import CATEGORIES
from klani_resp.acl.rules import Permissions, RuleError, Rules, hashed, is_spaced

DEFAULT = b"default"
_CATEGORIES = frozenset(CATEGORIES)


class UsersError(Exception):
    """Users cannot be as was asked; the text is Redis's."""


class User:
    """Sessions hold on to it; it is the same one while its rules change."""

    __slots__ = ("name", "rules")

    def __init__(self, name: bytes, rules: Rules) -> None:
        self.name = name
        self.rules = rules

    @property
    def needs_no_password(self) -> bool:
        return self.rules.is_on and self.rules.needs_no_password


class Users:
    def __init__(self, known: Permissions) -> None:
        self.known = known
        self._users: dict[bytes, User] = {}
        self._users[DEFAULT] = User(DEFAULT, self._changed(Rules(known), _ALL))
        self._absent = hashed(b"")

    @property
    def default(self) -> User:
        return self._users[DEFAULT]

    def get(self, name: bytes) -> User | None:
        return self._users.get(name)

    def all(self) -> list[User]:
        return [self._users[name] for name in sorted(self._users)]

    def authenticated(self, name: bytes, password: bytes) -> User | None:
        """Whose name and password these are; for a name that is nobody's the work is the same."""
        user = self._users.get(name)
        rules = Rules({}, hashes={self._absent: None}) if user is None else user.rules
        return user if rules.accepts(password) else None

    def change(self, name: bytes, rules: Iterable[bytes]) -> User:
        """A new user, or one that is there with these rules behind those it has. Raises UsersError."""
        if not name:  # a line of a file could not have it
            raise UsersError("Usernames can't be empty")
        if is_spaced(name):
            raise UsersError("Usernames can't contain spaces or null characters")
        user = self._users.get(name)
        changed = self._changed(Rules(self.known) if user is None else user.rules, rules)
        if user is None:
            user = self._users[name] = User(name, changed)
        user.rules = changed
        return user

    def _changed(self, rules: Rules, words: Iterable[bytes], *, in_file: bool = False) -> Rules:
        """What is wrong in a file goes to a log, which shall have no passwords."""
        changed = rules.copy()
        for word in words:
            try:
                changed.apply(word, _CATEGORIES)
            except RuleError as error:
                is_secret = in_file and word[:1] in (b">", b"<", b"#", b"!")
                shown = word[:1] + b"(redacted)" if is_secret else word[:128]
                where = "applying operation" if in_file else "ACL SETUSER modifier"
                raise UsersError(
                    f"Error in {where} '{shown.decode('utf-8', 'surrogateescape')}': {error}"
                ) from error
        return changed

    def require_password(self, password: bytes) -> User:
        """`requirepass`: the default user's only one; empty means that none is needed."""
        return self.change(DEFAULT, [b"resetpass", b">" + password] if password else [b"nopass"])

    def delete(self, names: Iterable[bytes]) -> set[User]:
        """Those that were there. Raises UsersError."""
        wanted = dict.fromkeys(names)
        if DEFAULT in wanted:
            raise UsersError("The 'default' user cannot be removed")
        return {self._users.pop(name) for name in wanted if name in self._users}

    # --- the ACL file ---------------------------------------------------------------------------------

    def lines(self) -> Mapping[bytes, bytes]:
        return {user.name: b"user %b %b" % (user.name, user.rules.line()) for user in self.all()}

    def parsed(self, text: bytes, source: str) -> dict[bytes, Rules]:
        """The rules that a file's text gives. Raises UsersError, with all that is wrong, by line."""
        found: dict[bytes, Rules] = {}
        wrong: list[str] = []
        for number, line in enumerate(text.split(b"\n"), 1):
            words = line.split()
            if not words or words[0].startswith(b"#"):
                continue
            try:
                if words[0] != b"user" or len(words) < 2:
                    raise UsersError("should start with user keyword followed by the username")
                if b"\0" in words[1]:
                    raise UsersError("the username contains invalid characters")
                if words[1] in found:
                    raise UsersError(f"Duplicate user '{words[1].decode('utf-8', 'replace')}' found")
                found[words[1]] = self._changed(Rules(self.known), words[2:], in_file=True)
            except UsersError as error:
                wrong.append(f"{source}:{number}: {error}.")
        if wrong:
            raise UsersError(" ".join(wrong))
        return found

    def replace(self, found: Mapping[bytes, Rules]) -> tuple[set[User], set[User]]:
        """All users are a file's, but for a default user that it does not name. Who changed, who is gone."""
        gone = {user for user in self.all() if user.name not in found and user.name != DEFAULT}
        for user in gone:
            del self._users[user.name]
        changed = set()
        for name, rules in found.items():
            user = self._users.setdefault(name, User(name, rules))
            if user.rules != rules:
                user.rules = rules
                changed.add(user)
        return changed, gone


_ALL = (b"on", b"nopass", b"allkeys", b"allchannels", b"+@all")
