"""The herd as a whole, small, over real servers; and the sums that its verdict rests on."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import herd
from bench.horde import wire
from bench.horde.flows import FLOWS
from bench.horde.options import Options
from bench.horde.output import raw_log
from bench.horde.purchase import SeedWorker, verbs_of
from bench.horde.stats import Books, Stored, Tally, peak_qps, per_second, percentile, summary
from bench.horde.wire import Args, RedisWire, Wire
from bench.horde.workers import HerdRecord, rank_of_users

ROOT = Path(__file__).resolve().parent.parent
USERS, SEATS = 2000, 200
SMALL = ["--users", str(USERS), "--seats", str(SEATS), "--ranks", "4", "--workers", "16", "--processes", "2"]
FINAL_KEYS = [
    *("users", "seats", "sold", "verified_sold", "read_queries", "updates", "peak_qps", "read_p90_us"),
    *("update_p90_us", "lock_conflicts", "already_sold", "no_ticket", "failed_workers", "wall_secs"),
]


def run_flow(output: Path, *options: str, word: str) -> tuple[dict[str, Any], str]:
    """Runs `python bench/herd.py`; the values of its last line, which begins with `word`, and all that it
    printed."""
    command = [sys.executable, str(ROOT / "bench" / "herd.py"), "--seed", "7", "--output", str(output)]
    done = subprocess.run(
        [*command, *options], cwd=output.parent, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *pairs = done.stdout.splitlines()[-1].split(" ")
    assert first == word
    return {key: float(value) for key, _, value in (pair.partition("=") for pair in pairs)}, done.stdout


def run_herd(output: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The seed's herd, small."""
    final, printed = run_flow(output, *SMALL, *options, word="thundering_herd_done")
    assert list(final) == FINAL_KEYS
    return final, printed


def check_sold_out(final: dict[str, Any], output: Path) -> dict[str, Any]:
    """What holds of every herd with more users than seats; its result.json."""
    assert final["sold"] == final["verified_sold"] == final["updates"] == SEATS
    assert final["no_ticket"] == USERS - SEATS
    assert final["failed_workers"] == 0
    lines = [json.loads(line) for line in (output / "raw.jsonl").read_text().splitlines()]
    kinds = {line["kind"] for line in lines}
    assert kinds >= {"start", "host", "second", "command", "event", "sale", "verification", "totals", "final"}
    sales = [line for line in lines if line["kind"] == "sale"]
    assert {sale["seat"] for sale in sales} == set(range(SEATS))
    purchase = next(line for line in lines if line["kind"] == "purchase")
    assert purchase["count"] == SEATS
    assert purchase["max"] == max(sale["took_us"] for sale in sales)
    assert len({sale["buyer"] for sale in sales}) == SEATS
    seconds = [line for line in lines if line["kind"] == "second"]
    assert sum(second["reads"] for second in seconds) == final["read_queries"]
    assert sum(second["updates"] for second in seconds) == SEATS
    assert json.loads((output / "host.json").read_text())["server"]["redis_version"]
    result: dict[str, Any] = json.loads((output / "result.json").read_text())
    assert result["problems"] == []
    return result


@pytest.mark.parametrize("owner", ["none", "uuid"])
def test_exact_flow_sells_every_seat_once(tmp_path: Path, owner: str) -> None:
    final, printed = run_herd(tmp_path / "out", "--owner", owner)
    commands = check_sold_out(final, tmp_path / "out")["commands"]
    assert "seed 7" in printed
    # Each user without a ticket has asked, and each seat was read before it was sold.
    assert commands["INTERSECT"]["count"] >= USERS
    assert commands["SEEK"]["count"] == commands["UNLOCK"]["count"] == SEATS + final["already_sold"]
    assert commands["TRYLOCK"]["count"] == commands["SEEK"]["count"] + final["lock_conflicts"]
    assert final["read_queries"] == commands["INTERSECT"]["count"] + commands["SEEK"]["count"]


def test_pipelined_flow_does_the_same_in_fewer_trips(tmp_path: Path) -> None:
    final, _ = run_herd(tmp_path / "out", "--flow", "pipelined")
    result = check_sold_out(final, tmp_path / "out")
    commands = result["commands"]
    assert commands["TRYLOCK"]["count"] == commands["SEEK"]["count"]
    assert commands["UNLOCK"]["count"] == final["already_sold"]
    assert result["round_trips"] == result["commands_total"] - commands["SEEK"]["count"]


def test_seed_shortcut_asks_less_and_says_so(tmp_path: Path) -> None:
    final, printed = run_herd(tmp_path / "out", "--seed-shortcut")
    check_sold_out(final, tmp_path / "out")
    assert "seed shortcut" in printed
    assert final["read_queries"] < USERS


@pytest.mark.parametrize("flow", ["exact", "pipelined"])
def test_redis_is_sold_out_by_the_same_rules(tmp_path: Path, flow: str, need: Callable[[str], str]) -> None:
    need("redis-server")
    final, _ = run_herd(tmp_path / "out", "--engine", "redis", "--flow", flow)
    check_sold_out(final, tmp_path / "out")


@pytest.mark.parametrize(
    ("engine", "program"), [("klani", ""), ("redis", "redis-server"), ("postgres", "postgres")]
)
def test_claim_flow_asks_once_for_each_user(
    tmp_path: Path, engine: str, program: str, need: Callable[[str], str]
) -> None:
    if program:
        need(program)
    final, _ = run_flow(
        tmp_path / "out", *SMALL, "--flow", "claim", "--engine", engine, word="claim_herd_done"
    )
    assert list(final) == [
        *("users", "seats", "sold", "verified_sold", "sold_out", "busy", "peak_qps"),
        *("claim_p50_us", "claim_p90_us", "claim_p99_us", "failed_workers", "wall_secs"),
    ]
    assert final["sold"] == final["verified_sold"] == SEATS
    assert final["sold_out"] == USERS - SEATS
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["commands"]["CLAIM"]["count"] == USERS  # an answer that says BUSY is none of these
    assert result["commands_total"] == result["round_trips"] == USERS + final["busy"]


def test_hold_flow_sells_all_that_was_let_go(tmp_path: Path) -> None:
    final, _ = run_flow(tmp_path / "out", *SMALL, "--flow", "hold", "--hold-ms", "50", word="hold_herd_done")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["refused"] == {"busy": final["busy"], "resold": final["resold"]}
    assert result["round_trips"] == result["commands_total"] == sum(s["commands"] for s in result["seconds"])
    assert final["peak_qps"] == max(second["commands"] for second in result["seconds"])
    assert final["sold"] == final["verified_sold"] == final["confirmed"] == SEATS
    assert final["released"] > 0
    assert final["expired"] > 0
    assert final["holds"] == SEATS + final["released"] + final["expired"] + final["resold"]
    assert final["sold_out"] == USERS - SEATS - final["released"] - final["expired"]


def test_each_session_books_a_room_and_no_room_is_left(tmp_path: Path) -> None:
    final, _ = run_flow(tmp_path / "out", "--flow", "rooms", word="rooms_done")
    assert final["sessions"] == final["rooms"] == final["booked"] == final["verified_booked"] == 1000
    assert final["sold_out"] == 0


def test_a_percentile_is_one_of_the_samples_by_nearest_rank() -> None:
    hundred = list(range(1, 101))
    assert [percentile(hundred, fraction) for fraction in (0.5, 0.9, 0.99, 0.999, 1.0)] == [
        50,
        90,
        99,
        100,
        100,
    ]
    assert percentile(list(range(1, 1001)), 0.999) == 999
    assert percentile([7], 0.5) == percentile([7], 0.999) == 7
    assert percentile([1, 5000], 0.9) == 5000
    assert percentile([], 0.9) == 0


def test_summary_sorts_what_it_is_given() -> None:
    assert summary(array("I", [30, 10, 20])) == {
        "count": 3,
        "p50": 20,
        "p90": 30,
        "p99": 30,
        "p99.9": 30,
        "max": 30,
    }
    assert summary([])["max"] == 0


def test_seconds_and_their_peak_count_reads_and_updates_only() -> None:
    tally = Tally()
    for command, moments in {
        "INTERSECT": [0, 999, 1000],
        "SEEK": [1999],
        "REPLACE": [1500],
        "UNLOCK": [1501],
    }.items():
        tally.ended_ms[command].extend(moments)
    seconds = per_second(tally, 2.2)
    assert [row["reads"] for row in seconds] == [2, 2, 0]
    assert [row["commands"] for row in seconds] == [2, 4, 0]
    assert peak_qps(seconds, tally.kind.rated) == 3


@pytest.mark.parametrize(("flow", "refusals"), [("claim", 1), ("rooms", 1), ("hold", 2)])
def test_a_refusal_is_an_answer_but_no_sample(flow: str, refusals: int) -> None:
    """-BUSY and -RESOLD count in throughput and peak; how long they took is in no percentile."""
    kind = FLOWS[flow].kind
    tally = Tally(kind)
    first = kind.commands[0]
    tally.ended_ms[first].extend([10, 1010])
    tally.took_us[first].extend([5, 5])
    for event in kind.events:
        tally.events_ms[event].append(1020)
    seconds = per_second(tally, 1.5)
    assert [row["commands"] for row in seconds] == [1, 1 + refusals]
    assert tally.answered() == sum(row["commands"] for row in seconds) == 2 + refusals
    assert dict(zip(kind.columns, tally.snapshot(), strict=True))["commands"] == 2 + refusals
    assert peak_qps(seconds, kind.rated) == 1 + refusals
    assert not {"reads", "updates"} & seconds[0].keys()


class ScriptedWire(RedisWire):
    """Answers what it is told, and a millisecond goes by with each answer."""

    def __init__(self, tally: Tally, replies: list[Any], clock: list[int]) -> None:
        Wire.__init__(self, tally)
        self._replies, self._clock = iter(replies), clock

    def call(self, command: str, args: Args) -> Any:
        self._clock[0] += 1_000_000
        return next(self._replies)


def test_a_purchase_lasts_from_the_first_call_to_the_sale(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who fails at a seat first, one who finds nothing, one who buys at once; UNLOCK is in none."""
    clock = [0]
    monkeypatch.setattr(wire, "perf_counter_ns", lambda: clock[0])
    row = {b"is_booked": 0, b"seat_no": 1}
    replies = [[5], None, [6], 1, row, b"OK", 1, [], [7], 1, row, b"OK", 1]
    tally, options = Tally(), Options(seats=10)
    worker = SeedWorker(0, options, verbs_of(options), ScriptedWire(tally, replies, clock), tally)
    for user in range(3):
        worker.serve(user, 0)
    assert list(tally.sold_us) == [6000, 4000]
    assert list(tally.sold_ms) == [6, 12]


def test_a_users_rank_depends_on_the_seed_alone() -> None:
    ranks = rank_of_users(Options(users=500, seed=3, processes=4))
    assert ranks == rank_of_users(Options(users=500, seed=3, processes=1, workers=7))
    assert ranks != rank_of_users(Options(users=500, seed=4))
    assert set(ranks) == set(range(10))


def test_the_books_find_a_seat_that_was_sold_twice() -> None:
    assert Books.of([1, 2, 3], [11, 12, 13]).double_sold == ()
    assert Books.of([1, 2, 1], [11, 12, 13]).double_sold == (1,)


def exit_status(
    directory: Path,
    sales: list[tuple[int, int]],
    stored: dict[int, int],
    failures: list[str],
    flow: str = "exact",
    left: tuple[str, ...] = (),
) -> int:
    """The herd's exit status for two users, two seats, these books (seat, buyer) and this storage; and for
    the users who left with nothing, the event of each."""
    tally = Tally(FLOWS[flow].kind)
    for event in left:
        tally.events_ms[event].append(5)
    for seat, buyer in sales:
        for column, value in zip(
            (tally.sold_seat, tally.sold_buyer, tally.sold_worker, tally.sold_ms, tally.sold_us),
            (seat, buyer, 0, 5, 5000),
            strict=True,
        ):
            column.append(value)
    record = HerdRecord(tally, failures, 1.0, 0.5)
    with raw_log(directory) as log:
        options = Options(users=2, seats=2, flow=flow)
        return herd.conclude(options, record, Stored(len(stored), stored, 2), {}, [], log, None)


@pytest.mark.parametrize(
    ("sales", "stored", "failures", "complaint"),
    [
        ([(0, 1), (1, 2)], {0: 1, 1: 2}, [], ""),
        ([(0, 1), (0, 2)], {0: 2, 1: 1}, [], "sold twice: 0"),
        ([(0, 1), (1, 2)], {0: 1}, [], "sold 2 != verified_sold 1"),
        ([(0, 1), (1, 2)], {0: 2, 1: 1}, [], "not the one in the books: 0, 1"),
        ([(0, 1), (1, 2)], {0: 1, 1: 2}, ["Traceback"], "1 workers failed"),
        ([(0, 1)], {0: 1}, [], "1 users were served, not 2"),
    ],
)
def test_exit_status_is_0_only_when_the_books_are_right(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sales: list[tuple[int, int]],
    stored: dict[int, int],
    failures: list[str],
    complaint: str,
) -> None:
    status = exit_status(tmp_path, sales, stored, failures)
    printed = capsys.readouterr().out
    assert status == (1 if complaint else 0)
    assert complaint in printed
    assert printed.splitlines()[-1].startswith("thundering_herd_done users=2 seats=2 ")


@pytest.mark.parametrize(
    ("flow", "left", "complaint"),
    [
        ("claim", "sold_out", ""),
        ("hold", "sold_out", "1 of 2 were not sold"),
        ("hold", "expired", "1 of 2 were not sold"),
        ("rooms", "sold_out", "1 of 2 were not sold"),
    ],
)
def test_flows_that_sell_all_may_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flow: str, left: str, complaint: str
) -> None:
    status = exit_status(tmp_path, [(0, 1)], {0: 1}, [], flow, (left,))
    assert status == (1 if complaint else 0)
    assert complaint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--flow hold --think-ms -5", "--think-ms: -5 is below 0"),
        (
            "--flow hold --users 5 --seats 100",
            "ends when nothing is left: --seats 100 need --users 143 or more",
        ),
        ("--flow rooms --users 999", "ends when nothing is left: --seats 1000 need --users 1000 or more"),
    ],
)
def test_what_cannot_end_well_is_refused(
    capsys: pytest.CaptureFixture[str], options: str, complaint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        herd.parse(options.split())
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--flow claim --users 5 --seats 100", "--users 5 --seats 100"])
def test_flows_that_need_not_sell_all_take_few_users(options: str) -> None:
    assert herd.parse(options.split()).users == 5


def test_a_flow_that_the_engine_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        herd.parse(["--flow", "hold", "--engine", "redis"])
    assert ended.value.code == 2
    assert "--flow hold is for --engine klani" in capsys.readouterr().err
