"""The metrics port of real servers: what a scrape says of a sale, exactly."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.harness import launch
from bench.harness.launch import ROOT, Server, free_port
from tests.conftest import Wire
from tests.scraping import DEPLOY, Scrape, fetch, risen

OPERATIONS = ROOT / "docs" / "operations.md"
SEATS = ("KL.CLAIM", "seats", "is_booked", 0)
HOLD = ("KL.HOLD", "seats", "is_booked", 0)
SOLD = ("SET", "is_booked", 1)


@dataclass
class Shop:
    server: Server
    metrics_port: int
    ask: Callable[..., Any]

    def scrape(self) -> Scrape:
        return fetch(self.metrics_port)

    def refused(self, *words: str | int) -> str:
        with pytest.raises(redis.ResponseError) as caught:
            self.ask(*words)
        return str(caught.value).split()[0]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    port = free_port()
    server = launch.klani(tmp_path_factory.mktemp("metrics") / "data", "--metrics-port", str(port))
    try:
        with redis.Redis(port=server.port, single_connection_client=True) as client:
            ask = client.execute_command
            ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX", "buyer", "U32")
            ask("KL.CREATE", "tours", "SCHEMA", "places", "COUNTER", "buyer", "U32")
            for seat in range(20):
                ask("KL.INSERT", f"seats:{seat}", "is_booked", 0)
            ask("KL.INSERT", "tours:1", "places", 10)
            yield Shop(server, port, ask)
    finally:
        server.stop()


def status_of(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def sell(shop: Shop) -> None:
    """Claims 3 and 1, holds of which one is sold, one released, one replaced; and each refusal once."""
    ask, refused = shop.ask, shop.refused
    claim = (*SEATS, *SOLD, "COUNT", 3, "FOR", "ann", "MAX", 4, "REQUEST", "order-1")
    assert ask(*claim) == ask(*claim) == [0, 1, 2]
    assert ask(*SEATS, *SOLD) == [3]
    assert refused(*SEATS, *SOLD, "COUNT", 2, "FOR", "ann", "MAX", 4) == "LIMIT"
    assert ask(*SEATS, *SOLD, "COUNT", 999) == []
    first = ask(*HOLD, "PX", 60_000, "FOR", "bob", "COUNT", 2)[0]
    assert ask("KL.CONFIRM", first, *SOLD) == ask("KL.CONFIRM", first, *SOLD) == [4, 5]
    second = ask(*HOLD, "PX", 60_000, "FOR", "eve", "COUNT", 2)[0]
    third = ask(*HOLD, "PX", 60_000, "FOR", "eve", "REPLACING", second)[0]
    assert refused(*SEATS, *SOLD, "IDS", 1, 6) == "BUSY"
    assert ask("KL.RELEASE", third) == 1
    assert ask("KL.RELEASE", third) == 0
    assert refused("KL.EXTEND", third, "PX", 5) == "NOHOLD"
    assert ask("KL.RETURN", "seats", "FOR", "ann", 0, 9, "SET", "is_booked", 0) == 1
    assert ask("KL.CLAIM", "tours", "IDS", 1, 1, "TAKE", 4, "FROM", "places") == [1]
    taken = ("KL.HOLD", "tours", "IDS", 1, 1, "TAKE", 3, "FROM", "places", "PX", 60_000, "FOR", "bob")
    assert ask("KL.CONFIRM", ask(*taken)[0], "SET", "buyer", 7) == [1]
    assert ask("KL.RETURN", "tours", "FOR", "bob", 1, "TAKE", 2, "FROM", "places", "SET", "buyer", 0) == 2


SALE = {
    ("klani_sales_total", "seats", "claim"): 2,
    ("klani_sales_total", "seats", "confirm"): 1,
    ("klani_sales_total", "tours", "claim"): 1,
    ("klani_sales_total", "tours", "confirm"): 1,
    ("klani_sold_rows_total", "seats", "claim"): 4,
    ("klani_sold_rows_total", "seats", "confirm"): 2,
    ("klani_sold_units_total", "tours", "claim"): 4,
    ("klani_sold_units_total", "tours", "confirm"): 3,
    ("klani_returned_rows_total", "seats"): 1,
    ("klani_returned_units_total", "tours"): 2,
    ("klani_repeated_claims_total", "seats"): 1,
    ("klani_holds_begun_total", "seats"): 3,
    ("klani_holds_begun_total", "tours"): 1,
    ("klani_holds_ended_total", "seats", "confirmed"): 1,
    ("klani_holds_ended_total", "seats", "replaced"): 1,
    ("klani_holds_ended_total", "seats", "released"): 1,
    ("klani_holds_ended_total", "tours", "confirmed"): 1,
    ("klani_remembered_requests",): 1,
    ("klani_remembered_holds",): 2,
    ("klani_errors_total", "LIMIT"): 1,
    ("klani_errors_total", "BUSY"): 1,
    ("klani_errors_total", "NOHOLD"): 1,
    ("klani_commands_total", "KL.CLAIM"): 7,
    ("klani_commands_total", "KL.HOLD"): 4,
    ("klani_commands_total", "KL.CONFIRM"): 3,
    ("klani_commands_total", "KL.RELEASE"): 2,
    ("klani_commands_total", "KL.EXTEND"): 1,
    ("klani_commands_total", "KL.RETURN"): 2,
    ("klani_command_failures_total", "KL.CLAIM"): 2,
    ("klani_command_failures_total", "KL.EXTEND"): 1,
    # 3 claims, 4 holds, 2 payments, 1 let go of, 2 refunds: each was a group of its own.
    ("klani_log_group_frames_sum",): 12,
    ("klani_log_group_frames_count",): 12,
}


def test_a_sale_is_counted_exactly(shop: Shop) -> None:
    before = shop.scrape()
    sell(shop)
    assert risen(before, shop.scrape()) == SALE
    assert risen(shop.scrape(), shop.scrape()) == {}, "to look changes nothing"


def test_a_sale_by_locks_is_counted_exactly(shop: Shop) -> None:
    before, ask = shop.scrape(), shop.ask
    token = ask("KL.TRYLOCK", 10, 11, 12)
    assert ask("KL.TRYLOCK", 9, 10) is None
    assert ask("KL.REPLACE", 10, token, "buyer", 5, "UNLOCK") == b"OK"
    assert ask("KL.REPLACE", 10, token, "buyer", 5) == b"OK"
    assert shop.refused("KL.REPLACE", 10, token, "buyer", 6) == "NOLOCK"
    assert ask("KL.UNLOCK", 11, token) == 1
    assert risen(before, shop.scrape()) == {
        ("klani_locks", "seats"): 1,
        ("klani_locks_granted_total", "seats"): 3,
        ("klani_locks_ended_total", "seats", "released"): 2,
        ("klani_locks_refused_total", "seats"): 1,
        ("klani_replaced_rows_total", "seats"): 1,
        ("klani_errors_total", "NOLOCK"): 1,
        ("klani_commands_total", "KL.TRYLOCK"): 2,
        ("klani_commands_total", "KL.REPLACE"): 3,
        ("klani_commands_total", "KL.UNLOCK"): 1,
        ("klani_command_failures_total", "KL.REPLACE"): 1,
        ("klani_log_group_frames_sum",): 1,
        ("klani_log_group_frames_count",): 1,
    }
    assert ask("KL.UNLOCK", 12, token) == 1


def test_a_hold_that_nobody_asks_for_expires_in_a_scrape(shop: Shop) -> None:
    before = shop.scrape()
    hold = shop.ask(*HOLD, "PX", 1, "FOR", "ann")[0]
    expired = ("klani_holds_ended_total", "seats", "expired")
    (after,) = [one for one in (shop.scrape() for _ in range(1000)) if one[expired] > before[expired]][:1]
    assert after[expired] == before[expired] + 1
    assert after["klani_holds", "seats"] == after["klani_held_rows", "seats"] == 0
    shop.ask("KL.CONFIRM", hold, *SOLD)
    late = ("klani_late_confirms_total", "seats")
    paid = shop.scrape()
    assert (paid[late], paid[expired]) == (before[late] + 1, after[expired])


def test_commands_of_one_turn_are_one_group_and_a_transaction_is_one_frame(shop: Shop) -> None:
    before = shop.scrape()
    with redis.Redis(port=shop.server.port) as client, client.pipeline(transaction=True) as pipeline:
        for row in range(100, 110):
            pipeline.execute_command("KL.INSERT", f"seats:{row}", "is_booked", 9)
        pipeline.execute()
    after = risen(before, shop.scrape())
    frames = "klani_log_group_frames_"
    assert (after[(frames + "sum",)], after[(frames + "count",)], after[("klani_table_rows", "seats")]) == (
        1,
        1,
        10,
    )


def test_info_and_metrics_say_the_same(shop: Shop) -> None:
    with redis.Redis(port=shop.server.port) as client:
        info, shown = client.info(), shop.scrape()
    assert info["log_commits"] == shown["klani_log_group_frames_count"]
    assert info["log_frames"] == shown["klani_log_group_frames_sum"]
    assert info["log_syncs"] == shown["klani_log_sync_seconds_count"]
    assert info["log_sync_ms"] == pytest.approx(shown["klani_log_sync_seconds_sum"] * 1000, abs=0.001)
    assert info["log_durable"] == shown["klani_log_position_bytes", "durable"]
    assert info["checkpoint_position"] == shown["klani_log_position_bytes", "checkpoint"]
    assert info["holds_remembered"] == shown["klani_remembered_holds"]
    assert info["requests_remembered"] == shown["klani_remembered_requests"]
    assert info["remembered_bytes"] == shown["klani_remembered_bytes"]
    assert info["table_seats"]["rows"] == shown["klani_table_rows", "seats"]
    assert info["total_connections_received"] == shown["klani_connections_accepted_total"]


def test_the_process_is_shown(shop: Shop) -> None:
    shown = shop.scrape()
    assert 0 < shown["process_cpu_seconds_total"] < 1000
    assert shown["process_resident_memory_bytes"] == pytest.approx(shop.server.rss_bytes(), rel=0.2)
    descriptors = len(list(Path(f"/proc/{shop.server.pid}/fd").iterdir()))
    assert abs(shown["process_open_fds"] - descriptors) <= 2, "the scrape has one itself"
    assert shown["klani_ready"] == shown["klani_loading_ratio"] == 1
    assert shown["klani_disk_state", "ok"] == 1
    started = shown["process_start_time_seconds"]
    assert 0 <= time.time() - started < 1000
    assert shop.scrape()["process_start_time_seconds"] == started


# --- ready, or not ----------------------------------------------------------------------------------------


def test_while_the_store_loads_it_answers(tmp_path: Path) -> None:
    """The server of 60,000 rows is killed, so the next one has them all to replay."""
    port = free_port()
    server = launch.klani(tmp_path / "data")
    with redis.Redis(port=server.port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
        for begin in range(0, 60_000, 10_000):
            with client.pipeline(transaction=False) as pipeline:
                for row in range(begin, begin + 10_000):
                    pipeline.execute_command("KL.INSERT", row, "is_booked", 0)
                pipeline.execute()
    server.process.kill()
    server.process.wait()
    seen: list[tuple[int, str]] = []

    def ready() -> bool:
        try:
            seen.append(status_of(port, "/readyz"))
        except OSError:
            return False
        return seen[-1][0] == 200

    command = [sys.executable, "-m", "klani_resp", "--port", str(server.port), "--metrics-port", str(port)]
    again = launch.start(
        "klani-resp", [*command, "--dir", str(tmp_path / "data")], tmp_path / "data", server.port, ready=ready
    )
    assert fetch(port)["klani_table_rows", "seats"] == 60_000
    assert again.stop() == 0
    assert seen[0][0] == 503
    assert re.fullmatch(r"loading: \d+\.\d %\n", seen[0][1])
    assert seen[-1] == (200, "ready\n")
    with pytest.raises(OSError):
        fetch(port)


def test_while_it_drains_it_is_not_ready(
    start: Callable[..., Server], wire: Callable[..., Wire], request_bytes: Callable[..., bytes]
) -> None:
    """A client that does not read what it asked for keeps the drain waiting."""
    port = free_port()
    server = start("--metrics-port", str(port))
    with redis.Redis(port=server.port) as client, client.pipeline(transaction=False) as pipeline:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
        for row in range(10_000):
            pipeline.execute_command("KL.INSERT", row, "is_booked", 0)
        pipeline.execute()
    assert status_of(port, "/readyz") == (200, "ready\n")
    slow = wire(server.port)
    slow.send_bytes(request_bytes("KL.INTERSECT", "seats", "is_booked", 0, "LIMIT", 0) * 200)
    slow.receive(1)
    server.process.send_signal(signal.SIGTERM)
    answers = (status_of(port, "/readyz") for _ in count())
    assert next(answer for answer in answers if answer[0] != 200) == (503, "stopping\n")
    assert status_of(port, "/healthz") == (200, "ok\n")
    slow.socket.close()
    assert server.process.wait(20) == 0


def test_a_metrics_port_in_use_is_one_clear_line(shop: Shop, tmp_path: Path) -> None:
    taken = str(shop.metrics_port)
    command = [sys.executable, "-m", "klani_resp", "--port", str(free_port()), "--metrics-port", taken]
    done = subprocess.run(
        [*command, "--dir", str(tmp_path / "other")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"cannot listen on 127.0.0.1:{taken}" in done.stderr.splitlines()[-1]


def test_who_does_not_ask_for_it_does_not_load_it() -> None:
    code = "import klani_resp.server, sys; print('h11' in sys.modules, 'klani_resp.metrics' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


# --- the dashboard and the page -----------------------------------------------------------------------------


def test_the_dashboard_shows_what_there_is(shop: Shop) -> None:
    shown = shop.scrape()
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for text in asked for name in re.findall(r"\b(?:klani|process)_\w+", text)}
    assert named <= shown.names()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert families == set(shown.families), "each is somewhere on it"
    for word, label in re.findall(r'(error|command|verb|point|state)=~?"([^"]+)"', " ".join(asked)):
        for value in label.split("|"):
            assert any(value in key[1:] for key in shown.samples), f"{word} {value}"
    variables = {one["name"]: one["type"] for one in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query", "instance": "query"}
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert (dashboard["id"], dashboard["schemaVersion"]) == (None, 41)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_page_lists_what_there_is_in_the_words_of_the_scrape(shop: Shop) -> None:
    shown = shop.scrape()
    listed = re.findall(
        r"^\| `((?:klani|process)_\w+)` \| (\w+) \| (.+) \|$", OPERATIONS.read_text(), re.MULTILINE
    )
    assert {name: (kind, summary) for name, kind, summary in listed} == shown.families
    elsewhere = re.findall(r"\b((?:klani|process)_\w+?)(?:_bucket|_sum|_count)?\b", OPERATIONS.read_text())
    metrics = {name for name in elsewhere if not name.startswith("klani_resp")}
    assert metrics == set(shown.families)
