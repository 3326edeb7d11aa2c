"""The typed helper over real sockets: each verb, each front end, both protocols, decoding on and off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from bench.harness import launch
from klani_resp.client import KL, AsyncKL, Column, Hold, LiveHold, LiveLock, Page, TableInfo, Verdict
from tests.kl_driver import FRONTS, Front

SCHEMA = {
    "rank": "U32 INDEX",
    "hall_row": "U16",
    "seat_no": "U16",
    "is_booked": "U8 INDEX",
    "buyer": "I64",
    "note": "BYTES 8",
}
NO_TEXT = b"\xff\x00\xfe"  # no UTF-8
FREE = {"is_booked": 0, "rank": 3}
SOLD = {"is_booked": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Server]:
    folder = tmp_path_factory.mktemp("kl")
    running = launch.klani(folder / "data", "--backup-dir", str(folder / "backups"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(params=[None, 2, 3], ids=["RESP default", "RESP2", "RESP3"])
def protocol(request: pytest.FixtureRequest) -> dict[str, int]:
    return {} if request.param is None else {"protocol": request.param}


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def decode(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=sorted(FRONTS))
def kl(
    request: pytest.FixtureRequest,
    server: launch.Server,
    client: Any,
    protocol: dict[str, int],
    decode: bool,
) -> Iterator[Front]:
    """The helper on a server without tables."""
    with FRONTS[request.param](port=server.port, decode_responses=decode, **protocol) as front:
        yield front


@pytest.fixture
def hall(kl: Front) -> Front:
    """A table `seats` with ten free rows of rank 3, in two rows of the hall."""
    kl.create("seats", SCHEMA)
    kl.insert_many(
        "seats",
        [
            (seat, {"rank": 3, "hall_row": seat // 5, "seat_no": seat % 5, "note": NO_TEXT})
            for seat in range(10)
        ],
    )
    return kl


def test_tables(kl: Front, tmp_path: Path) -> None:
    assert kl.create("seats", {"rank": "U32 INDEX", "note": "BYTES 8"}) is True
    assert kl.create("seats", {"rank": "U32 INDEX", "note": "BYTES 8"}, if_not_exists=True) is True
    assert kl.tables() == ["seats"]
    info = kl.info("seats")
    assert isinstance(info, TableInfo)
    assert info.schema == [Column("rank", "U32", True), Column("note", "BYTES 8", False)]
    assert (info.rows, info.locks, info.holds) == (0, 0, 0)
    assert kl.insert(7, {"rank": 3, "note": NO_TEXT}) is True
    assert kl.insert("seats:7", {"rank": 3, "note": NO_TEXT}) is True
    assert kl.verify("seats", "rank", 3) == Verdict(1, 1, 1, 1, 0, True)
    path = Path(kl.backup(tmp_path.name))
    assert path.is_dir()
    assert kl.drop("seats") is True
    assert kl.drop("seats") is False


def test_rows(hall: Front) -> None:
    row = hall.seek(4)
    assert row.id == 4
    assert row == {"rank": 3, "hall_row": 0, "seat_no": 4, "is_booked": 0, "buyer": 0, "note": NO_TEXT}
    assert list(row) == list(SCHEMA)
    assert [type(value) for value in row.values()] == [int] * 5 + [bytes]
    assert hall.seek("seats:4") == hall.seek("{seats}:4") == row
    assert dict(hall.seek(4, "note", "rank")) == {"note": NO_TEXT, "rank": 3}
    assert hall.seek(77) is None
    assert hall.intersect("seats", FREE, after=2, limit=3) == [3, 4, 5]
    assert len(hall.intersect("seats", {"rank": 3}, limit=0)) == 10
    assert hall.count("seats", FREE) == 10
    with pytest.raises(TypeError):
        row["rank"] = 4


def test_keys_as_the_client_s_own_scan_has_them(
    hall: Front, connect: Callable[..., Any], decode: bool
) -> None:
    for key in sorted(connect(decode_responses=decode).scan_iter()):
        assert hall.seek(key)["rank"] == 3
        with hall.lock(key) as row:
            row.replace(note=b"seen")
        assert hall.history(key, limit=1)[0].row["note"] == b"seen"
        assert hall.insert(key, hall.seek(key))
    assert hall.seek(b"{seats}:4").id == 4


def test_truth_is_one_or_zero(hall: Front) -> None:
    with hall.lock(3) as row:
        row.replace(is_booked=True, buyer=False)
        assert (row["is_booked"], row["buyer"]) == (1, 0)
    assert hall.intersect("seats", {"is_booked": True}) == [3]
    assert hall.claim("seats", {"is_booked": False}, {"is_booked": True}) == [0]
    assert hall.verify("seats", "is_booked", True).matched == 2


def test_ids_may_be_numbers(hall: Front) -> None:
    assert hall.claim("seats", FREE, SOLD, request=42) == [0]
    assert hall.claim("seats", FREE, SOLD, request="42") == [0]
    assert hall.trylock(5, attempt=7) == hall.trylock(5, attempt="7")


def test_scan(hall: Front) -> None:
    rows = list(hall.scan("seats", page=3))
    assert [row.id for row in rows] == list(range(10))
    assert rows[4] == hall.seek(4)
    page = hall.scan_page("seats", 8, count=5)
    assert page == Page(0, [hall.seek(8), hall.seek(9)])
    assert list(hall.scan("seats")) == rows


def test_insert_many_in_batches(hall: Front) -> None:
    rows = {seat: {"rank": 4} for seat in range(100, 125)}
    assert hall.insert_many("seats", rows.items(), batch=10) == 25
    assert hall.insert_many("seats", rows.items()) == 25
    assert hall.insert_many("seats", []) == 0
    assert hall.count("seats", {"rank": 4}) == 25


def test_locks(hall: Front) -> None:
    token = hall.trylock(3, "seats:4", ms=60_000)
    assert hall.trylock(3) is None
    first, second = hall.locks("seats")
    assert isinstance(first, LiveLock)
    assert (first.id, first.token, second.id) == (3, token, 4)
    assert isinstance(first.attempt, bytes)
    assert 0 < first.ms_left <= 60_000
    assert [lock.id for lock in hall.locks("seats", limit=1)] == [3]
    assert hall.intersect("seats", FREE, free=True, limit=4) == [0, 1, 2, 5]
    assert hall.count("seats", FREE, free=True) == 8
    assert hall.replace(3, token, {"is_booked": 1, "note": b"\r\n"}, unlock=True) is True
    assert hall.seek(3)["note"] == b"\r\n"
    assert hall.unlock(3, 4, token=token) == 1


def test_an_attempt_is_fresh_unless_told(hall: Front) -> None:
    token = hall.trylock(1, attempt="mine")
    assert hall.trylock(1, attempt=b"mine") == token
    assert hall.trylock(1) is None
    assert hall.locks("seats")[0].attempt == b"mine"
    hall.unlock(1, token=token)
    assert hall.trylock(1, attempt=None) > token
    assert hall.locks("seats")[0].attempt is None


def test_claim(hall: Front) -> None:
    assert hall.claim("seats", FREE, SOLD) == [0]
    assert hall.claim("seats", FREE, {"is_booked": 1, "buyer": -7}, count=2, owner="ann", max=4) == [1, 2]
    assert hall.seek(2)["buyer"] == -7
    assert hall.claim("seats", FREE, SOLD, ids=[9, 3], owner=b"bob") == [3, 9]
    assert hall.claim("seats", FREE, SOLD, count=2, adjacent="seat_no", within="hall_row") == [5, 6]
    assert hall.claim("seats", FREE, SOLD, count=9) == []
    assert hall.claim("seats", FREE, SOLD, request="order-1") == [4]
    assert hall.claim("seats", FREE, SOLD, request="order-1") == [4]
    assert hall.claim("seats", FREE, SOLD, request=None) == [7]


def test_give_back(hall: Front) -> None:
    hall.claim("seats", FREE, SOLD, count=3, owner="ann")
    assert hall.give_back("seats", [0, 1, 5], {"is_booked": 0}, owner="ann") == 2
    assert hall.give_back("seats", [0, 1], {"is_booked": 0}, owner="ann") == 0
    assert hall.give_back("seats", [2], {"is_booked": 0}, owner="bob", request=None) == 0
    assert hall.count("seats", FREE) == 9


def test_hold_and_confirm(hall: Front) -> None:
    held = hall.hold("seats", FREE, ms=60_000, owner="ann", count=2, max=2)
    assert isinstance(held, Hold)
    assert held.ids == [0, 1]
    (live,) = hall.holds("seats", owner="ann")
    assert isinstance(live, LiveHold)
    assert (live.token, live.owner, live.ids) == (held.token, b"ann", [0, 1])
    assert hall.extend(held.token, ms=90_000) > held.deadline_ms
    more = hall.hold("seats", FREE, ms=60_000, owner="ann", count=3, max=3, replacing=held.token)
    assert more.ids == [0, 1, 2]
    assert hall.holds("seats", owner=b"bob") == []
    assert hall.confirm(more.token, SOLD) == [0, 1, 2]
    assert hall.confirm(more.token, SOLD) == [0, 1, 2]
    assert hall.release(more.token) == 0
    left = hall.hold("seats", FREE, ms=60_000, owner="cyd", ids=[8])
    assert hall.release(left.token) == 1
    assert hall.hold("seats", FREE, ms=60_000, owner="cyd", count=8) is None
    again = hall.hold("seats", FREE, ms=60_000, owner="cyd", request="order-2")
    assert hall.hold("seats", FREE, ms=60_000, owner="cyd", request="order-2") == again


def test_general_admission(kl: Front) -> None:
    kl.create("tours", {"day": "U16 INDEX", "places": "COUNTER"})
    kl.insert("tours:42", {"day": 7, "places": 5})
    assert kl.claim("tours", ids=[42], take=3, from_="places", owner="ann") == [42]
    assert kl.claim("tours", ids=[42], take=3, from_="places") == []
    assert kl.give_back("tours", [42], owner="ann", take=1, from_="places") == 1
    held = kl.hold("tours", ids=[42], take=3, from_="places", owner="bob", ms=60_000)
    assert kl.confirm(held.token) == [42]
    assert kl.seek("tours:42")["places"] == 0


def test_history(hall: Front) -> None:
    hall.claim("seats", FREE, SOLD, owner="ann", request="order-1")
    sale, insert = hall.history(0)
    assert (sale.verb, sale.request, insert.verb, insert.owner) == ("claim", b"order-1", "insert", None)
    assert isinstance(sale.owner, bytes)
    assert sale.row == hall.seek(0)
    assert sale.position > insert.position
    assert sale.unix_ms >= insert.unix_ms
    assert hall.history("seats:0", limit=1) == [sale]


@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_pipelines(hall: Front, transaction: bool) -> None:
    with hall.pipeline(transaction) as pipe:
        pipe.seek(0).claim("seats", FREE, SOLD, count=2).trylock(0, 5)
        pipe.hold("seats", FREE, ms=60_000, owner="ann")
        pipe.intersect("seats", FREE, free=True)
        pipe.info("seats").locks("seats").holds("seats").scan_page("seats").count("seats", FREE)
        pipe.insert("seats:50", {"rank": 9}).seek(50, "rank").tables().seek(99)
        assert len(pipe) == 14
        before, sold, token, held, free, info, locks, holds, page, count, *rest = pipe.execute()
    assert before == {"rank": 3, "hall_row": 0, "seat_no": 0, "is_booked": 0, "buyer": 0, "note": NO_TEXT}
    assert sold == [0, 1]
    assert held.ids == [2]
    assert free == [3, 4, 6, 7, 8, 9]
    assert [lock.token for lock in locks] == [token, token]
    assert [hold.owner for hold in holds] == [b"ann"]
    assert (info.rows, info.schema[0], count) == (10, Column("rank", "U32", True), 8)
    assert [row["note"] for row in page.rows] == [NO_TEXT] * 10
    assert rest == [True, {"rank": 9}, ["seats"], None]


@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_a_pipeline_of_the_caller_s_own(
    hall: Front, connect: Callable[..., Any], protocol: dict[str, int], decode: bool, transaction: bool
) -> None:
    hall.insert(50, {"rank": 5, "note": "text"})
    client = connect(decode_responses=decode, **protocol)
    pipe = client.pipeline(transaction)
    queue: Any = KL(pipe)
    queue.seek(50)
    queue.claim("seats", {"is_booked": 0, "rank": 5}, SOLD)
    pipe.echo("x")
    queue.locks("seats")
    row, sold, echo, locks = pipe.execute()
    assert (row["note"], row.id, sold, locks) == (b"text", 50, [50], [])
    assert echo == ("x" if decode else b"x")


@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_an_asyncio_pipeline_of_the_caller_s_own(
    hall: Front, server: launch.Server, decode: bool, transaction: bool
) -> None:
    hall.insert(50, {"rank": 5, "note": "text"})

    async def queued() -> Any:
        async with redis.asyncio.Redis(port=server.port, decode_responses=decode) as client:
            pipe = client.pipeline(transaction)
            await AsyncKL(pipe).seek(50)
            pipe.echo("x")
            return await pipe.execute()

    row, echo = asyncio.run(queued())
    assert (row["note"], row.id) == (b"text", 50)
    assert echo == ("x" if decode else b"x")


def test_tasks_share_one_helper(server: launch.Server, client: Any) -> None:
    async def shop() -> list[list[int]]:
        async with redis.asyncio.Redis(port=server.port) as connection:
            kl = AsyncKL(connection)
            await kl.create("seats", SCHEMA)
            await kl.insert_many("seats", ((seat, {"rank": 3}) for seat in range(10)))
            return await asyncio.gather(*[kl.claim("seats", FREE, SOLD) for _ in range(30)])

    answers = asyncio.run(shop())
    assert sorted(row for ids in answers for row in ids) == list(range(10))


def test_the_caller_s_own_commands_stay_as_they_are(
    hall: Front, connect: Callable[..., Any], as_map: Callable[..., Any], protocol: dict[str, int]
) -> None:
    client = connect(**protocol)
    before = client.execute_command("KL.SEEK", 1)
    assert KL(client).seek(1) == hall.seek(1)
    assert client.execute_command("KL.SEEK", 1) == before
    assert as_map(before)[b"rank"] == 3
