"""What the pages of several commands say in the same words (`Page.arguments`, `Page.errors`)."""

from __future__ import annotations

from storage.holds import HOLD_MS_MAX

TABLE = {"<table>": "its name"}
KEY = {"<key>": "`<table>:<id>`, `{<table>}:<id>`, or `<id>` in the default table"}
CRITERIA = TABLE | {"<field> <value>": "indexed fields, and the values that all of them must have"}
HOLD_PX = {"PX <ms>": f"milliseconds from now, 1 to {HOLD_MS_MAX:,}, which is 366 days"}
REQUEST = {
    "REQUEST <id>": "1 to 64 bytes, one space per table: sent again with the same arguments it gets the "
    "first answer again"
}
TAKE = {"TAKE <n> FROM <counter>": "so many units of one row's counter, in place of rows"}
CHOICE = (
    {
        "COUNT <n>": "so many rows, the lowest ids that do: 1 unless told, at most 1,000; all or none",
        "IDS <n> <id> [<id> ...]": "these rows and no others",
        "ADJACENT <field>": "an integer field that rises by 1 from row to row: neighbours",
        "WITHIN <field>": "and a field that is equal in all of them, such as the row of the hall",
    }
    | {"IDS 1 <id>": "the row of whose counter units are taken"}
    | TAKE
    | {
        "FOR <owner>": "1 to 64 bytes",
        "MAX <n>": "of rows and units that the owner may have in this table, these included",
    }
    | REQUEST
)
UNKNOWN = "syntax, a value out of its field's range, an unknown table or field"
NOT_INDEXED = {"ERR": UNKNOWN + "; a field is not indexed"}
MEMORY = {
    "REQUEST": "this request id was used with other arguments",
    "OOM": "the room for what is remembered of requests and holds is full",
}
CHOICE_ERRORS = {
    "BUSY": "enough rows match, but some are locked or held: asking again may help",
    "LIMIT": "MAX would be exceeded",
} | MEMORY
