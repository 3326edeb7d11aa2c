"""Bugs that the suite must catch: what each one changes in the code, and the tests that then fail.

`old` stands once in the file, else the bug cannot be planted and its test says so. docs/planted-bugs.md is
made from this table: `python -m tests.planted.bugs > docs/planted-bugs.md`.
"""

from __future__ import annotations

from tests.planted.bug import Bug
from tests.planted.ends_bugs import ENDS_BUGS
from tests.planted.history_bugs import HISTORY_BUGS
from tests.planted.refund_bugs import REFUND_BUGS
from tests.planted.security_bugs import SECURITY_BUGS
from tests.planted.selling_bugs import SELLING_BUGS

TORN, BYTES = "tests/test_torn_tail.py::", "tests/test_log_bytes.py::"
RECOVERY, LIVES = "tests/test_recovery.py::", "tests/test_lives.py::"
CHECKPOINT, STATES = "tests/test_checkpoint.py::", "tests/test_crash_states.py::"
LOCKS, SESSION = "tests/test_locks.py::", "tests/test_session.py::"
UNSEEN = "test_no_reply_shows_a_table_that_a_crash_could_take_back"
KILLED = "tests/test_killed_checkpoint.py::"
COMMITTER, PROMISES = "tests/test_committer.py::", "tests/test_promises.py::"

HEAD = """# Planted bugs

Each of these is planted in a copy of the code by `tests/planted/test_planted.py` with every run of the suite,
and the tests of `tests/` that stand beside it must fail then. Made from `tests/planted/bugs.py`, which has
the exact texts.

| bug | in | caught by |
|---|---|---|"""

BUGS = (
    # --- the log ---
    Bug(
        "a write is acknowledged before its sync",
        "storage/wal.py",
        'return self.durable if self._policy == "always" else self.written',
        "return self.written",
        (COMMITTER + "test_what_comes_during_a_sync_is_the_next_group",),
    ),
    Bug(
        "the log is not synced",
        "storage/fs.py",
        "os.fdatasync(fd)",
        "pass",
        tuple(f"tests/test_syncer.py::test_a_failed_sync_raises[{how}]" for how in ("process", "thread")),
    ),
    Bug(
        "after a failed sync it is tried again",
        "storage/wal.py",
        "        if self.failed:\n",
        "        if False:\n",
        (TORN + "test_failed_sync_is_final_and_the_next_start_writes_the_tail_again",),
    ),
    Bug(
        "a failed sync of the committer is forgotten",
        "klani_resp/committer.py",
        "            self._wal.failed = True\n            raise\n        assert position",
        "            pass\n        assert position",
        (COMMITTER + "test_a_failed_sync_is_the_end",),
    ),
    Bug(
        "a new segment's directory is not synced",
        "storage/wal.py",
        ", path)\n        fs.fsync_directory(self.directory)\n",
        ", path)\n",
        (STATES + "test_every_crash_state[0-insert 0]",),
    ),
    Bug(
        "a replaced file's directory is not synced",
        "storage/fs.py",
        "\n    fs.fsync_directory(path.parent)\n",
        "\n",
        (RECOVERY + "test_acknowledged_but_not_named_as_durable_survives_two_crashes",),
    ),
    Bug(
        "MULTI's records go to the log one by one",
        "storage/wal.py",
        "self._frame.append(record)",
        "self._queue.append(record)",
        (RECOVERY + "test_crash_at_every_call_with_all_unsynced_dropped[0]",),
    ),
    Bug(
        "a batch shares a sector with the one before",
        "storage/format.py",
        "SECTOR_BYTES = 512\n",
        "SECTOR_BYTES = 64\n",
        (STATES + "test_every_crash_state[0-insert 0,insert 1]",),
    ),
    Bug(
        "a batch's checksum is not looked at",
        "storage/log_reader.py",
        "if fmt.batch_crc(segment.salt, view[offset:begin], view[begin:end]) != header.crc:",
        "if False:",
        (BYTES + "test_a_flip_before_the_last_batch_refuses_the_start[3]",),
    ),
    Bug(
        "a batch's checksum leaves out the salt",
        "storage/format.py",
        'zlib.crc32(salt.to_bytes(8, "little"))',
        "0",
        ("tests/test_format.py::test_example",),
    ),
    Bug(
        "the checksum of the batch before is not looked at",
        "storage/log_reader.py",
        "header.first != position or header.previous_crc != crc",
        "header.first != position",
        (
            PROMISES + "test_a_batch_behind_another_than_it_was_written_behind_is_none[3]",
            PROMISES + "test_a_batch_behind_another_than_it_was_written_behind_is_none[9]",
        ),
    ),
    Bug(
        "padding may hold anything",
        "storage/log_reader.py",
        'return None if data[end : offset + fmt.padded(header.length)].strip(b"\\0") else header',
        "return header",
        (BYTES + "test_a_flip_before_the_last_batch_refuses_the_start[3]",),
    ),
    Bug(
        "a damaged log passes for a torn tail",
        "storage/log_reader.py",
        "    if named > position:\n",
        "    if False:\n",
        (BYTES + "test_a_flip_before_the_last_batch_refuses_the_start[3]",),
    ),
    Bug(
        "a torn tail passes for damage",
        "storage/log_reader.py",
        "    if named > position:\n",
        "    if named >= position:\n",
        (STATES + "test_every_crash_state[2-checkpoint,replace 0]",),
    ),
    Bug(
        "the checkpoint's position does not count when a log is judged",
        "storage/manifest.py",
        'fields["tables"] = [',
        'fields["position"] = 0\n        fields["tables"] = [',
        (BYTES + "test_after_a_clean_stop_every_cut_is_detected[49]",),
    ),
    # --- starts ---
    Bug(
        "a torn tail is left in place",
        "storage/recovery.py",
        "            if fs.size(fd) > offset:\n",
        "            if False:\n",
        (BYTES + "test_a_flip_in_the_last_batch_takes_it_whole",),
    ),
    Bug(
        "a doubtful tail is served without being written again",
        "storage/recovery.py",
        "if batch.end > log.durable]",
        "if False]",
        (TORN + "test_failed_sync_is_final_and_the_next_start_writes_the_tail_again",),
    ),
    Bug(
        "tokens set aside are given out again after a crash",
        "storage/replay.py",
        "self.tokens = max(self.tokens, previous)",
        "pass",
        (RECOVERY + "test_crash_at_every_call_with_all_unsynced_dropped[0]",),
    ),
    Bug(
        "a start keeps its epoch",
        "storage/recovery.py",
        "        manifest.epoch += 1\n",
        "",
        (CHECKPOINT + "test_checkpoint_of_an_old_epoch_is_refused",),
    ),
    Bug(
        "a block's checksum is not looked at",
        "storage/recovery.py",
        " and crc32(memory[start + 4 : start + size]) == crc",
        "",
        (CHECKPOINT + "test_rotten_block_without_a_copy_refuses_the_start",),
    ),
    Bug(
        "a torn block is not restored",
        "storage/recovery.py",
        "table.rows.directories[table.rows.numbers[slot]][start : start + fmt.BLOCK_BYTES] = copy",
        "pass",
        (STATES + "test_every_crash_state[2-replace 0,checkpoint]",),
    ),
    Bug(
        "a lost block passes for one never written",
        "storage/recovery.py",
        "if present.range_cardinality(rows.start, rows.stop) and not self._restore(table, block):",
        "if False:",
        (CHECKPOINT + "test_lost_block_refuses_the_start",),
    ),
    Bug(
        "a zeroed block is not restored",
        "storage/recovery.py",
        "and not self._restore(table, block):",
        "and block:",
        (LIVES + "test_a_block_that_a_power_loss_zeroed_is_restored",),
    ),
    Bug(
        "what a killed checkpoint left in the page cache is not synced",
        "storage/recovery.py",
        "                files.sync_table(number)\n",
        "                pass\n",
        (KILLED + "test_killed_in_a_checkpoint_then_power_is_lost_in_the_next[second]",),
    ),
    Bug(
        "a part of a list takes the place of another",
        "storage/index_file.py",
        "            lists[key] |= rows\n",
        "            lists[key] = rows\n",
        ("tests/test_cut.py::test_writers_between_any_two_steps_do_not_get_into_it[0]",),
    ),
    # --- checkpoints ---
    Bug(
        "a checkpoint does not wait for its log",
        "klani_resp/app.py",
        "await self.durable(plan.position)",
        "pass",
        (PROMISES + "test_a_checkpoint_waits_for_its_log",),
    ),
    Bug(
        "the double-write file is not synced before its blocks are put in place",
        "storage/row_file.py",
        " + bytes(places), 0)\n        fs.fsync(fd)\n",
        " + bytes(places), 0)\n",
        (STATES + "test_every_crash_state[2-replace 0,checkpoint]",),
    ),
    Bug(
        "blocks in place are not synced",
        "storage/row_file.py",
        "            self._fs.fsync(self._fd)\n            self._is_synced = True\n",
        "            self._is_synced = True\n",
        (STATES + "test_every_crash_state[2-replace 0,checkpoint]",),
    ),
    Bug(
        "old segments go before the CHECKPOINT is durable",
        "storage/checkpoint.py",
        "        self.manifest.save(fs, directory)\n",
        "        self._wal.drop_before(self.position)\n        self.manifest.save(fs, directory)\n",
        (LIVES + "test_power_losses[7]",),
    ),
    Bug(
        "the epoch on disk is not looked at",
        "storage/checkpoint.py",
        "epoch != self.manifest.epoch:",
        "epoch == -1:",
        (CHECKPOINT + "test_checkpoint_of_an_old_epoch_is_refused",),
    ),
    Bug(
        "a write beside a checkpoint changes its blocks",
        "storage/rows.py",
        "self.preimages[block] = directory[start : start + fmt.BLOCK_BYTES]\n            cut.discard(block)",
        "pass",
        (CHECKPOINT + "test_writes_during_the_cut_do_not_get_into_it",),
    ),
    Bug(
        "a row's old image is not kept for the lists of a checkpoint",
        "storage/rows.py",
        "if before is not None and row not in before:",
        "if False:",
        ("tests/test_cut.py::test_writers_between_any_two_steps_do_not_get_into_it[0]",),
    ),
    Bug(
        "the index file's checksum is not looked at",
        "storage/index_file.py",
        " or zlib.crc32(memoryview(data)[HEAD.size :]) != crc",
        "",
        (PROMISES + "test_rot_in_the_index_file_is_seen",),
    ),
    Bug(
        "a written block is not dirty",
        "storage/rows.py",
        "        self.dirty.add(block)\n",
        "",
        (RECOVERY + "test_crash_at_every_call_with_all_unsynced_dropped[0]",),
    ),
    # --- locks ---
    Bug(
        "KL.REPLACE does not look at the token",
        "storage/locks.py",
        "lease is None or lease.token != token or lease.deadline <= now",
        "lease is None or lease.deadline <= now",
        (PROMISES + "test_a_foreign_token_neither_writes_nor_unlocks",),
    ),
    Bug(
        "a lease that ended still protects",
        "storage/locks.py",
        "lease is None or lease.token != token or lease.deadline <= now",
        "lease is None or lease.token != token",
        (LOCKS + "test_lease_ends_to_the_nanosecond",),
    ),
    Bug(
        "a lease ends a nanosecond late",
        "storage/locks.py",
        "return lease is None or lease.deadline <= now",
        "return lease is None or lease.deadline < now",
        (PROMISES + "test_a_lease_that_ended_is_in_nobody_s_way",),
    ),
    Bug(
        "KL.UNLOCK lets go of another's lock",
        "storage/engine.py",
        "lease = locks.live_lease(table, row, token, now)",
        "lease = table.leases.get(row)",
        (PROMISES + "test_a_foreign_token_neither_writes_nor_unlocks",),
    ),
    Bug(
        "KL.TRYLOCK takes what another holds",
        "storage/engine.py",
        "            if not locks.is_free(table, row, now):\n                table.tally",
        "            if False:\n                table.tally",
        (LOCKS + "test_all_keys_or_none",),
    ),
    Bug(
        "another attempt gets the lock of the one that holds it",
        "storage/locks.py",
        "lease is None or lease.owner != owner or lease.deadline <= now",
        "lease is None or lease.deadline <= now",
        (PROMISES + "test_a_lease_that_ended_is_in_nobody_s_way",),
    ),
    Bug(
        "KL.REPLACE sent again is refused",
        "storage/engine.py",
        "if old[0] == token and tuple(fields) == old:",
        "if False:",
        (LOCKS + "test_replace_resent_after_unlock_is_ok_and_writes_nothing",),
    ),
    Bug(
        "KL.REPLACE sent again with other values is OK",
        "storage/engine.py",
        "if old[0] == token and tuple(fields) == old:",
        "if old[0] == token:",
        (LOCKS + "test_replace_resent_after_unlock_is_ok_and_writes_nothing",),
    ),
    # --- what replies show ---
    Bug(
        "a refusal is not held",
        "klani_resp/sessions/compiler.py",
        "    engine.note(engine.appended)\n    statistics.fail(error.text)",
        "    statistics.fail(error.text)",
        (SESSION + UNSEEN + "[KL.SEEK 1 nope--ERR unknown field 'nope']",),
    ),
    Bug(
        "KL.SEEK does not note what it shows",
        "storage/engine.py",
        "            self.seen = position\n        if shape.has_bytes:",
        "            pass\n        if shape.has_bytes:",
        (SESSION + "test_a_reply_waits_for_all_that_it_shows",),
    ),
    Bug(
        "a posting list's position is not raised by a row that comes to it",
        "storage/index.py",
        "            posting.rows.add(row)\n            posting.position = position\n",
        "            posting.rows.add(row)\n",
        (SESSION + "test_a_reply_waits_for_all_that_it_shows",),
    ),
    Bug(
        "a token is shown before its range is set aside",
        "storage/engine.py",
        "            self.seen = self._token_position\n",
        "            pass\n",
        (PROMISES + "test_a_token_is_not_shown_before_its_range_is_set_aside",),
    ),
    Bug(
        "a row stays in its old posting list",
        "storage/index.py",
        "                posting.rows.discard(row)\n",
        "                pass\n",
        ("tests/test_index.py::test_answers_equal_a_recount[0]",),
    ),
    *HISTORY_BUGS,
    *SELLING_BUGS,
    *ENDS_BUGS,
    *REFUND_BUGS,
    *SECURITY_BUGS,
)


def page() -> str:
    """docs/planted-bugs.md."""
    rows = []
    for bug in BUGS:
        nodes = ", ".join(f"`{node.removeprefix('tests/')}`" for node in bug.caught_by)
        rows.append(f"| {bug.name} | `{bug.file}` | {nodes} |")
    return "\n".join((HEAD, *rows, ""))


if __name__ == "__main__":
    print(page(), end="")
