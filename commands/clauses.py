"""The clauses of the selling verbs: what is wanted, for whom, and what makes a resend known.

    <field> <value> ...  SET <field> <value> ...  COUNT <n> | IDS <n> <id> ... | ADJACENT <f> [WITHIN <g>]
    TAKE <n> FROM <counter>  FOR <owner> [MAX <n>]  REQUEST <id>  PX <ms>  REPLACING <token>

Criteria come first, the clauses behind them in any order, each once.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from msgspec.msgpack import encode

from commands.arguments import integer, pairs, shown, token_of
from commands.spec import CommandError, syntax_error
from storage.format import ROW_ID_MAX
from storage.holds import HOLD_MS_MAX
from storage.offers import Criteria, Wanted
from storage.schema import Field, Schema, Value
from storage.selling import ROWS_MAX, Terms

NAME_BYTES_MAX = 64  # of an owner, of a request
UNITS_MAX = (1 << 32) - 1


class Clauses:
    """What was said. `criteria` and `changes` may be empty: the command says what it needs."""

    def __init__(self, schema: Schema, words: list[bytes], allowed: frozenset[bytes], start: int = 0) -> None:
        self._schema = schema
        self._words = words
        self.criteria: Criteria
        self.criteria, self._at = pairs(schema, words, start, least=0)
        self.changes: dict[bytes, Value] = {}
        self.wanted = Wanted()
        self.terms = Terms()
        self.px_ms = 0
        self.replacing = 0
        self.said: set[bytes] = set()
        while self._at < len(words):
            name = words[self._at].upper()
            clause = _CLAUSES.get(name) if name in allowed else None
            if clause is None or name in self.said:
                raise syntax_error()
            self.said.add(name)
            self._at += 1
            clause(self)
        self._judge()

    def _judge(self) -> None:
        said = self.said
        if len(said & {b"COUNT", b"IDS", b"ADJACENT"}) > 1 and said & {b"IDS"}:
            raise syntax_error()
        if (b"WITHIN" in said and b"ADJACENT" not in said) or (b"MAX" in said and b"FOR" not in said):
            raise syntax_error()
        if b"TAKE" in said and b"IDS" in said and len(self.wanted.ids or ()) != 1:
            raise CommandError("ERR TAKE takes from one row: IDS 1 <id>")

    def need_choice(self) -> None:
        """Rows are chosen by criteria; the one that units are taken from by its id."""
        if not (self.criteria if self.wanted.field is None else self.wanted.ids):
            raise syntax_error()

    def word(self) -> bytes:
        if self._at >= len(self._words):
            raise syntax_error()
        self._at += 1
        return self._words[self._at - 1]

    def _name(self, clause: str) -> bytes:
        name = self.word()
        if not 1 <= len(name) <= NAME_BYTES_MAX:
            # Clients strip `ERR `: what is left must not begin with an error's name.
            raise CommandError(
                f"ERR the name after {clause} takes 1 to {NAME_BYTES_MAX} bytes, not {len(name)}"
            )
        return name

    def _field(self, is_right: Callable[[Field], bool], what: str) -> bytes:
        name = self.word()
        if not is_right(self._schema.field(name)):
            raise CommandError(f"ERR field '{shown(name)}' is {what}")
        return name

    # --- one clause each ------------------------------------------------------------------------------

    def set(self) -> None:
        self.changes, self._at = pairs(self._schema, self._words, self._at)
        for name in self.changes:
            if self._schema.field(name).is_counter:
                raise CommandError(
                    f"ERR field '{shown(name)}' is a counter: TAKE, RETURN or REPLACE change it"
                )

    def count(self) -> None:
        self.wanted.count = integer(self.word(), 1, ROWS_MAX)

    def ids(self) -> None:
        count = integer(self.word(), 1, ROWS_MAX)
        ids = tuple(integer(self.word(), 0, ROW_ID_MAX) for _ in range(count))
        if len(set(ids)) < count:
            raise CommandError("ERR a row id is named twice")
        self.wanted.ids = ids

    def adjacent(self) -> None:
        self.wanted.adjacent = self._field(lambda field: not field.is_bytes, "no integer")

    def within(self) -> None:
        self.wanted.within = self._field(lambda field: True, "")

    def take(self) -> None:
        self.wanted.units = integer(self.word(), 1, UNITS_MAX)
        if self.word().upper() != b"FROM":
            raise syntax_error()
        self.wanted.field = self._field(lambda field: field.is_counter, "no counter")

    def owner(self) -> None:
        self.terms.owner = self._name("FOR")

    def most(self) -> None:
        self.terms.most = integer(self.word())

    def request(self) -> None:
        self.terms.request = self._name("REQUEST")

    def px(self) -> None:
        self.px_ms = integer(self.word(), 1, HOLD_MS_MAX)

    def replace(self) -> None:
        self.replacing = token_of(self.word())


_CLAUSES: dict[bytes, Callable[[Clauses], None]] = {
    b"SET": Clauses.set,
    b"COUNT": Clauses.count,
    b"IDS": Clauses.ids,
    b"ADJACENT": Clauses.adjacent,
    b"WITHIN": Clauses.within,
    b"TAKE": Clauses.take,
    b"FOR": Clauses.owner,
    b"MAX": Clauses.most,
    b"REQUEST": Clauses.request,
    b"PX": Clauses.px,
    b"REPLACING": Clauses.replace,
}


def digest(verb: bytes, words: list[bytes]) -> bytes:
    """Of a command's arguments, byte for byte."""
    return blake2b(encode((verb, words)), digest_size=16).digest()


def refuse_unchanged(criteria: Criteria, changes: dict[bytes, Value]) -> None:
    """A sale must take its rows out of what matches, or the next one sells them again."""
    for name, value in changes.items():
        if criteria.get(name, value) != value:
            return
    raise CommandError("ERR SET leaves the row matching")
