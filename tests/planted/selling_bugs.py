"""Bugs of the selling verbs: a part of the table in bugs.py."""

from __future__ import annotations

from tests.planted.bug import Bug

CLAIMS, HOLDS = "tests/test_contract_claim.py::", "tests/test_contract_hold.py::"
PAID, RESENT = "tests/test_contract_confirm.py::", "tests/test_contract_request.py::"
TIMES, COUNTERS = "tests/test_contract_clock.py::", "tests/test_contract_counter.py::"

SELLING_BUGS = (
    # --- claims and holds ---
    Bug(
        "a claim takes what others hold",
        "storage/offers.py",
        "        return locks.is_free(table, row, self._now) or (mine",
        "        return True or (mine",
        (HOLDS + "test_held_rows_are_nobody_else_s[RESP2]",),
    ),
    Bug(
        "busy is called sold out",
        "storage/offers.py",
        "        if len(ids) < wanted.count:\n            raise self._busy()\n",
        "        if len(ids) < wanted.count:\n            return []\n",
        (CLAIMS + "test_claims_in_a_transaction[RESP2]",),
    ),
    Bug(
        "a claim for somebody takes the row as nobody's",
        "storage/selling.py",
        "digest_of(terms.owner) if terms.owner else fmt.NO_OWNER",
        "fmt.NO_OWNER",
        (CLAIMS + "test_replace_does_not_change_who_a_row_was_sold_to[RESP2]",),
    ),
    Bug(
        "MAX is one too many",
        "storage/selling.py",
        "owned + more > terms.most:",
        "owned + more > terms.most + 1:",
        (CLAIMS + "test_max_counts_what_is_sold_and_held_in_this_table[RESP2]",),
    ),
    Bug(
        "MAX does not count what is held",
        "storage/table_sales.py",
        "        return self.sold.get(digest, 0) + held\n",
        "        return self.sold.get(digest, 0)\n",
        (CLAIMS + "test_what_goes_back_does_not_count[RESP2]",),
    ),
    Bug(
        "units that are held are sold",
        "storage/offers.py",
        "            if left < wanted.units:\n",
        "            if False:\n",
        (COUNTERS + "test_holds_of_one_counter_stand_side_by_side[RESP2]",),
    ),
    Bug(
        "KL.TRYLOCK shows a hold that is not durable",
        "storage/engine.py",
        "            self.note(table.sales.position)\n            if not locks.is_free",
        "            if not locks.is_free",
        (TIMES + "test_a_reply_that_shows_a_hold_waits_for_it",),
    ),
    # --- requests ---
    Bug(
        "a claim that is sent again buys again",
        "storage/selling.py",
        "        if found is None:\n            return None\n",
        "        if True:\n            return None\n",
        (
            RESENT + "test_a_claim_sent_again_gets_the_first_answer[RESP2]",
            RESENT + "test_resends_on_many_connections_at_once",
        ),
    ),
    Bug(
        "a REQUEST's arguments are not looked at",
        "storage/selling.py",
        "        if args != terms.args:\n",
        "        if False:\n",
        (RESENT + "test_a_returns_s_id_is_taken_for_claims_too[RESP2]",),
    ),
    Bug(
        "a full memory of requests takes more",
        "storage/requests.py",
        "        return self.bytes < self.bytes_max\n",
        "        return True\n",
        (TIMES + "test_a_full_memory_refuses_new_requests_and_forgets_none",),
    ),
    # --- the end of a hold ---
    Bug(
        "a late payment buys what was resold",
        "storage/selling.py",
        "        if hold.state is State.LAPSED and (gone := self._gone(hold)):\n",
        "        if gone := ():\n",
        (
            PAID + "test_resold_names_what_is_gone[RESP2]",
            TIMES + "test_a_live_hold_whose_row_is_gone_is_never_sold",
        ),
    ),
    Bug(
        "KL.CONFIRM sent again is judged anew",
        "storage/selling.py",
        "        if hold.state is State.CONFIRMED:\n",
        "        if False:\n",
        (PAID + "test_confirm_sent_again[RESP2]",),
    ),
    Bug(
        "an ended hold is released",
        "storage/selling.py",
        "        return hold if hold.state is State.LIVE else None\n",
        "        return hold\n",
        (HOLDS + "test_release_behind_confirm_changes_nothing[RESP2]",),
    ),
    Bug(
        "a refund for a row that was sold to another",
        "storage/selling.py",
        "return bool(values[2] == digest)",
        "return True",
        (PAID + "test_return_sent_late_takes_nothing_from_the_next_owner[RESP2]",),
    ),
    Bug(
        "what is replaced stays held",
        "storage/book.py",
        "        if event.replacing in self.holds:\n",
        "        if False:\n",
        (HOLDS + "test_replacing_is_never_blocked_by_an_own_cart[RESP2]",),
    ),
    # --- time, and what is remembered ---
    Bug(
        "deadlines never come",
        "storage/book.py",
        "        while deadlines and deadlines[0][0] <= now:\n",
        "        while False:\n",
        (TIMES + "test_in_the_end_they_are_forgotten",),
    ),
    Bug(
        "time without a server counts for holds",
        "storage/book.py",
        "        ahead = store_ms * MS - self._engine.clock()\n",
        "        ahead = 0\n",
        (TIMES + "test_time_without_a_server_does_not_count[0-False]",),
    ),
    Bug(
        "a checkpoint forgets holds and requests",
        "storage/checkpoint.py",
        "        if not events:\n",
        "        if True:\n",
        (
            TIMES + "test_time_without_a_server_does_not_count[0-True]",
            TIMES + "test_requests_and_ended_holds_are_remembered_for_a_day[6]",
        ),
    ),
)
