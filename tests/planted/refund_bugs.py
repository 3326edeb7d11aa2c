"""Bugs of refunds, counters, KL.HOLDS and KL.HISTORY that histories show: a part of the table in bugs.py."""

from __future__ import annotations

from tests.planted.bug import Bug

WORLDS = "tests/sim/test_world.py::test_worlds[0]"

REFUND_BUGS = (
    Bug(
        "a row that was taken back stays its buyer's",
        "storage/selling.py",
        "digest_after = None if wanted.field else fmt.NO_OWNER",
        "digest_after = None",
        (WORLDS,),
    ),
    Bug(
        "units that were taken back can be taken back again",
        "storage/book.py",
        "elif verb == Verb.RETURN and event.units:",
        "elif verb == Verb.RETURN and event.units < 0:",
        (WORLDS,),
    ),
    Bug(
        "a refund puts no units back",
        "storage/selling.py",
        "            changes = changes | {wanted.field: total}\n",
        "            changes = changes | {wanted.field: total - wanted.units}\n",
        (WORLDS,),
    ),
    Bug(
        "more units are sold than there are",
        "storage/offers.py",
        "values[table.schema.column_of[wanted.field]] < wanted.units:",
        "values[table.schema.column_of[wanted.field]] < 1:",
        (WORLDS,),
    ),
    Bug(
        "units of a hold that is paid are not taken",
        "storage/selling.py",
        "        wanted = Wanted(ids=hold.ids, field=hold.field.encode() or None, units=hold.units)\n",
        "        wanted = Wanted(ids=hold.ids, field=hold.field.encode() or None, units=0)\n",
        (WORLDS,),
    ),
    Bug(
        "KL.HOLDS lists what is over",
        "storage/book.py",
        '        """By ascending token."""\n        self.settle(table)\n',
        '        """By ascending token."""\n',
        ("tests/test_contract_clock.py::test_it_is_over_for_whoever_asks_first",),
    ),
    Bug(
        "KL.HOLDS lists what was let go",
        "storage/table_sales.py",
        "        del mine[hold.number]\n",
        "        mine.pop(hold.number if hold.deadline <= hold.table.sales.position else 0, None)\n",
        (WORLDS,),
    ),
    Bug(
        "KL.HISTORY leaves out the request",
        "commands/history.py",
        "    return event.owner or None, event.request or None\n",
        "    return event.owner or None, None\n",
        (WORLDS,),
    ),
    Bug(
        "KL.HISTORY begins with the oldest",
        "commands/history.py",
        "for entry in history(fs, directory, uuid, number, row, position, wanted):\n",
        "for entry in [*history(fs, directory, uuid, number, row, position, wanted)][::-1]:\n",
        (WORLDS,),
    ),
)
