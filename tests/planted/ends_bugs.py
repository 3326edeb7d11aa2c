"""Bugs of what comes to its end: holds, walks for neighbours. A part of the table in bugs.py."""

from __future__ import annotations

from tests.planted.bug import Bug

SHOWN, UNITS = "tests/test_shown_ends.py::", "tests/test_held_units.py::"
NEIGHBOURS, CARTS = "tests/test_neighbours.py::", "tests/test_max.py::"

ENDS_BUGS = (
    Bug(
        "a walk is not told of rows that a sale brings to its list",
        "storage/table.py",
        "        if self.sales.walks.kept:\n",
        "        if False:\n",
        (NEIGHBOURS + "test_sales_bring_rows_to_another_list",),
    ),
    Bug(
        "seats are side by side that a sale has put elsewhere",
        "storage/adjacent.py",
        "if row in rows and self._place(read(row)) == place:",
        "if row in rows:",
        (NEIGHBOURS + "test_whatever_happens_no_run_is_overlooked[13]",),
    ),
    Bug(
        "a walk passes over a lock for good",
        "storage/adjacent.py",
        "            elif may_end(row):\n",
        "            elif False:\n",
        (NEIGHBOURS + "test_what_comes_back_is_found[unlock]",),
    ),
    Bug(
        "a walk is not told of what becomes free",
        "storage/table_sales.py",
        "            self.walks.changed(hold.ids)",
        "            pass",
        (NEIGHBOURS + "test_what_comes_back_is_found[release]",),
    ),
    Bug(
        "the end of a hold is seen and not written down",
        "storage/book.py",
        "            self._write_down_time(lapsed)\n",
        "            pass\n",
        (SHOWN + "test_units_that_were_seen_back_are_back",),
    ),
    Bug(
        "what shows the end of a hold does not wait for it",
        "storage/book.py",
        "            hold.table.sales.position = self._engine.appended\n",
        "",
        (SHOWN + "test_what_shows_an_end_waits_for_it",),
    ),
    Bug(
        "FREE shows a row before the end of its hold is durable",
        "storage/engine.py",
        "        if free:\n            self.selling.settle(table)\n        if free and table.leases:\n",
        "        if free and table.leases:\n",
        (SHOWN + "test_a_row_that_was_sold_is_seen_free_for_others_once_that_is_durable",),
    ),
    Bug(
        "a hold of units that is live is judged like a late payment",
        "storage/selling.py",
        "        if hold.state is State.LAPSED and (gone := self._gone(hold)):\n",
        "        if (hold.state is State.LAPSED or hold.units) and (gone := self._gone(hold)):\n",
        (UNITS + "test_what_is_kept_aside_is_sold",),
    ),
    Bug(
        "a lock's holder puts back units that were sold meanwhile",
        "storage/book.py",
        "            if old[0] > lock:\n",
        "            if False:\n",
        (UNITS + "test_a_lock_s_holder_does_not_put_back_what_was_sold_meanwhile",),
    ),
    Bug(
        "a cart that is over is left to a late payment",
        "storage/selling.py",
        "if hold is None or hold.state is State.CONFIRMED or hold.table is not table:",
        "if hold is None or hold.state is not State.LIVE or hold.table is not table:",
        (CARTS + "test_a_cart_that_is_over_is_let_go_of_too",),
    ),
    Bug(
        "what a cart that is replaced has counts for MAX",
        "storage/selling.py",
        "(mine.size if mine is not None else 0)",
        "0",
        (CARTS + "test_a_new_cart_may_keep_what_the_old_one_had",),
    ),
    Bug(
        "only one's own table forgets what is old",
        "storage/selling.py",
        "        for table in self._engine.tables.values():\n",
        "        for table in [*self._engine.tables.values()][:1]:\n",
        ("tests/test_contract_clock.py::test_what_another_table_remembers_is_forgotten_too",),
    ),
    Bug(
        "a sale for nobody has the owner of the next in its EXEC",
        "commands/history.py",
        "(other for other in behind if not _is_of_one_sale(record, other))",
        "(other for other in behind if other.kind == fmt.Kind.EVENT)",
        ("tests/test_sale_history.py::test_each_of_many_sales_in_one_exec_has_its_own",),
    ),
)
