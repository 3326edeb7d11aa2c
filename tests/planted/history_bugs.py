"""Bugs of the chain, the archive and the history: a part of the table in bugs.py."""

from __future__ import annotations

from tests.planted.bug import Bug

CHAIN, ARCHIVE = "tests/test_chain.py::", "tests/test_archive.py::"
AUDIT, HISTORY = "tests/test_audit.py::", "tests/test_history.py::"

HISTORY_BUGS = (
    # --- the chain ---
    Bug(
        "the chain leaves out a batch",
        "storage/wal.py",
        "        self._crc = crc\n        self._unchained.append((batch, payload))\n",
        "        self._crc = crc\n        self.groups % 2 or self._unchained.append((batch, payload))\n",
        (CHAIN + "test_each_commit_is_a_link", AUDIT + "test_an_unbroken_chain_is_proven"),
    ),
    Bug(
        "the chain leaves out the time of a batch",
        "storage/format.py",
        "CHAINED_BYTES = 32",
        "CHAINED_BYTES = 24",
        (CHAIN + "test_each_commit_is_a_link", "tests/test_format.py::test_constants"),
    ),
    Bug(
        "a head is shown before its batch is durable",
        "storage/wal.py",
        "        self.offset += len(batch)\n        self.written += len(payload)\n",
        "        self.offset += len(batch)\n        self.written += len(payload)\n"
        "        self.chain()\n        self.anchor = Anchor(self.written, self._head)\n",
        (CHAIN + "test_what_is_not_durable_is_not_shown",),
    ),
    Bug(
        "a new segment begins a chain of its own",
        "storage/wal.py",
        "fmt.encode_segment(self._uuid, self._epoch, salt, first, self._head)",
        "fmt.encode_segment(self._uuid, self._epoch, salt, first, fmt.CHAIN_START)",
        (CHAIN + "test_each_commit_is_a_link", AUDIT + "test_an_unbroken_chain_is_proven"),
    ),
    Bug(
        "a batch that a start writes again gets the time of the start",
        "storage/wal.py",
        "old.header.durable, old.header.unix_ms, old.payload",
        "old.header.durable, _unix_ms(), old.payload",
        (CHAIN + "test_a_batch_that_is_written_again_keeps_its_time",),
    ),
    Bug(
        "a start goes on from the head behind the batches that it writes again",
        "storage/recovery.py",
        "head=doubtful[0].before if doubtful else log.head,",
        "head=log.head,",
        (CHAIN + "test_a_head_that_was_shown_stays_though_its_batch_is_written_again",),
    ),
    Bug(
        "the audit does not compare what a segment begins with",
        "storage/audit.py",
        "    if segment.head != run.head:\n",
        "    if False:\n",
        (AUDIT + "test_a_forged_batch_is_found_though_all_checksums_are_right[0]",),
    ),
    Bug(
        "the audit passes over an anchor that it does not meet",
        "storage/audit.py",
        "            if anchor.position not in self._met:\n",
        "            if False:\n",
        (AUDIT + "test_a_log_that_was_cut",),
    ),
    # --- the archive ---
    Bug(
        "a name in the archive is not synced",
        "storage/archive.py",
        "        fs.fsync_directory(self.directory)  # first: it must have a name in any case\n",
        "",
        (ARCHIVE + "test_no_crash_loses_a_segment[None]",),
    ),
    Bug(
        "the next of the archive goes before the oldest is gone for good",
        "storage/archive.py",
        "        self._fs.unlink(self.directory / name)\n        self._fs.fsync_directory(self.directory)\n",
        "        self._fs.unlink(self.directory / name)\n",
        (ARCHIVE + "test_the_oldest_is_gone_for_good_before_the_next_goes",),
    ),
    Bug(
        "the newest of the archive goes first",
        "storage/archive.py",
        "        name = min(self._kept)\n",
        "        name = max(self._kept)\n",
        (ARCHIVE + "test_more_bytes_than_allowed_make_the_oldest_go",),
    ),
    Bug(
        "a clock that jumps ahead empties the archive",
        "storage/archive.py",
        "AGED_MAX = 2\n",
        "AGED_MAX = 1000\n",
        (ARCHIVE + "test_a_clock_that_jumps_ahead_costs_the_oldest_only",),
    ),
    Bug(
        "a start removes what a checkpoint did not come to archive",
        "storage/recovery.py",
        "for first, path in log.older + log.segments if first < begin",
        "for first, path in log.segments if first < begin",
        (ARCHIVE + "test_a_start_archives_what_a_checkpoint_did_not_come_to",),
    ),
    Bug(
        "a full disk keeps the archive",
        "storage/archive.py",
        "if not is_full(error) or not self.give_up_oldest():",
        "if True:",
        (ARCHIVE + "test_a_start_takes_the_archive_s_room",),
    ),
    # --- history ---
    Bug(
        "a history ends where a checkpoint moved a segment meanwhile",
        "storage/history.py",
        "                self._list()\n                continue\n",
        "                return None\n",
        (HISTORY + "test_a_segment_that_is_moved_meanwhile_is_found",),
    ),
    Bug(
        "a history ends at the first record of a batch",
        "storage/history.py",
        "at = bisect_left(self._ends, position)\n",
        "at = bisect_left(self._ends, position + 1)\n",
        (HISTORY + "test_all_writes_of_a_row_through_log_and_archive[0]",),
    ),
    Bug(
        "a frame holds the records of the one before",
        "storage/history.py",
        "                frame.clear()\n",
        "",
        (HISTORY + "test_what_came_to_be_together_is_a_frame",),
    ),
)
