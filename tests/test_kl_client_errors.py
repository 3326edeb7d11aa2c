"""The helper's exceptions and locks: each refusal of the server under a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import OutOfMemoryError, ResponseError

from bench.harness import launch
from klani_resp import client as kl_client
from klani_resp.client import (
    KL,
    AsyncKL,
    Busy,
    Exists,
    KLError,
    Limit,
    Locked,
    NoHold,
    NoLock,
    NoRow,
    RequestReused,
    RequestsFull,
    Resold,
    of_kl,
)
from tests.kl_driver import FRONTS, Front

FREE = {"is_booked": 0}
SOLD = {"is_booked": 1}


@pytest.fixture(params=sorted(FRONTS))
def kl(request: pytest.FixtureRequest, server: launch.Server, client: Any) -> Iterator[Front]:
    """The helper, and a table `seats` of four free rows."""
    with FRONTS[request.param](port=server.port) as front:
        front.create("seats", {"is_booked": "U8 INDEX", "buyer": "U32", "note": "BYTES 8"})
        front.insert_many("seats", ((seat, {"note": b"a"}) for seat in range(4)))
        yield front


def refused(kl: Front, case: str) -> Any:
    hold = kl.hold("seats", FREE, ms=60_000, owner="ann", ids=[3])
    if case == "no lock":
        return kl.replace(0, 1, {"buyer": 1})
    if case == "unknown hold":
        return kl.confirm(kl.trylock(0), SOLD)
    if case == "released hold":
        kl.release(hold.token)
        return kl.extend(hold.token, ms=1)
    if case == "other contents":
        return kl.insert(0, {"buyer": 9})
    if case == "table":
        return kl.create("seats", {"x": "U8"})
    if case == "no row":
        return kl.trylock(77)
    if case == "held by another":
        return kl.claim("seats", FREE, SOLD, ids=[3])
    if case == "limit":
        return kl.claim("seats", FREE, SOLD, owner="ann", max=1)
    kl.claim("seats", FREE, SOLD, request="order-1")
    return kl.claim("seats", FREE, SOLD, count=2, request="order-1")


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("no lock", NoLock),
        ("unknown hold", NoHold),
        ("released hold", NoHold),
        ("other contents", Exists),
        ("table", Exists),
        ("no row", NoRow),
        ("held by another", Busy),
        ("limit", Limit),
        ("other arguments", RequestReused),
    ],
)
def test_each_refusal_has_a_class(kl: Front, case: str, error: type[KLError]) -> None:
    with pytest.raises(redis.ResponseError) as caught:
        refused(kl, case)
    assert type(caught.value) is error


def sold_too_late(kl: Front) -> int:
    """A hold of rows 0 and 1 that is over, and row 1 sold to another."""
    late = kl.hold("seats", FREE, ms=1, owner="ann", ids=[0, 1])
    while kl.holds("seats"):
        pass
    assert kl.claim("seats", FREE, SOLD, ids=[1]) == [1]
    return int(late.token)


def test_resold_names_the_rows(kl: Front) -> None:
    token = sold_too_late(kl)
    with pytest.raises(Resold) as caught:
        kl.confirm(token, SOLD)
    assert caught.value.ids == [1]


@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_in_pipelines(kl: Front, transaction: bool) -> None:
    token = sold_too_late(kl)
    with kl.pipeline(transaction) as pipe:
        pipe.seek(2, "note").confirm(token, SOLD).insert(0, {"buyer": 9}).count("seats", SOLD)
        row, resold, exists, count = pipe.execute(raise_on_error=False)
    assert (row, count) == ({"note": b"a"}, 1)
    assert (type(resold), resold.ids, type(exists)) == (Resold, [1], Exists)
    with kl.pipeline(transaction) as pipe:
        pipe.seek(2).confirm(token, SOLD).claim("seats", FREE, SOLD, ids=[2])
        with pytest.raises(Resold) as caught:
            pipe.execute()
    assert caught.value.ids == [1]
    assert caught.value.__notes__ == ["answered to KL.CONFIRM, command 2 of 3 in the pipeline"]
    assert kl.count("seats", SOLD) == 2, "the others have run"


def test_a_pipeline_that_was_left_sends_nothing(kl: Front) -> None:
    with pytest.raises(KeyError), kl.pipeline() as pipe:
        pipe.claim("seats", FREE, SOLD)
        raise KeyError
    assert kl.count("seats", SOLD) == 0


def test_what_is_wrong_in_itself_stays_redis_py_s(kl: Front) -> None:
    with pytest.raises(redis.ResponseError, match="unknown table") as caught:
        kl.info("nothing")
    assert type(caught.value) is redis.ResponseError
    with kl.pipeline() as pipe, pytest.raises(redis.ResponseError) as queued:
        pipe.insert(9, {}).execute()
    assert type(queued.value) is redis.ResponseError


def test_what_is_refused_before_it_is_sent(kl: Front) -> None:
    with pytest.raises(ValueError, match="1 to 64 bytes, not 65"):
        kl.claim("seats", FREE, SOLD, request="x" * 65)
    with pytest.raises(ValueError, match="1 to 64 bytes, not 0"):
        kl.trylock(1, attempt="")
    with pytest.raises(ValueError, match="belong together"):
        kl.claim("seats", ids=[1], take=2)
    with pytest.raises(ValueError, match="no row key"):
        kl.seek("seats:x")
    wrong: Any = 1.5
    with pytest.raises(TypeError, match="a row key is int, str or bytes, not float"):
        kl.seek(wrong)
    with pytest.raises(TypeError, match="REQUEST is str, bytes or int, not float"):
        kl.claim("seats", FREE, SOLD, request=wrong)
    for batch in (0, -1):
        with pytest.raises(ValueError, match="batch is 1 or more"):
            kl.insert_many("seats", [(9, {"buyer": 1})], batch=batch)
    assert kl.locks("seats") == []


def test_clients_of_another_kind_are_refused(server: launch.Server) -> None:
    wrong: Any = (
        redis.asyncio.Redis(port=server.port),
        object.__new__(redis.RedisCluster),
        "localhost",
        None,
    )
    for one in wrong:
        with pytest.raises(TypeError, match=r"^KL is over a redis\.Redis, "):
            KL(one)
    with pytest.raises(TypeError, match=r"this is a redis\.client\.Redis$"):
        AsyncKL(redis.Redis(port=server.port))  # type: ignore[arg-type]


def test_errors_that_a_full_server_answers() -> None:
    full = of_kl(OutOfMemoryError("command not allowed when"))
    assert isinstance(full, RequestsFull)
    assert isinstance(full, OutOfMemoryError)
    assert isinstance(of_kl(ResponseError("MISCONF Errors writing to the log: ...")), kl_client.DiskFull)
    assert of_kl(full) is full


def test_memory_for_requests_is_full(start: Callable[..., launch.Server], tmp_path: Any) -> None:
    config = tmp_path / "small.toml"
    config.write_text("remembered_bytes_max = 0\n")
    server = start("--config", str(config))
    with FRONTS["sync"](port=server.port) as kl:
        kl.create("seats", {"is_booked": "U8 INDEX"})
        kl.insert_many("seats", ((seat, {"is_booked": 0}) for seat in range(4)))
        with pytest.raises(RequestsFull):
            kl.claim("seats", FREE, SOLD)
        with pytest.raises(OutOfMemoryError):
            kl.claim("seats", FREE, SOLD)
        assert kl.claim("seats", FREE, SOLD, request=None) == [0]


# --- locks --------------------------------------------------------------------------------------------


def test_a_lock_is_let_go_at_the_end(kl: Front) -> None:
    with kl.lock(2, ms=60_000) as row:
        assert (row.id, row["note"], row.key) == (2, b"a", 2)
        assert kl.locks("seats")[0].token == row.token
        row.replace(is_booked=1, note="b")
        assert (row["is_booked"], row["note"]) == (1, b"b")
        row.replace(buyer=7)
        assert kl.seek(2) == {"is_booked": 1, "buyer": 7, "note": b"b"}
        assert len(kl.locks("seats")) == 1
    assert kl.locks("seats") == []


def test_a_lock_can_be_let_go_with_the_last_write(kl: Front) -> None:
    with kl.lock("seats:2") as row:
        row.replace(is_booked=1, unlock=True)
        assert kl.locks("seats") == []
        token = kl.trylock(2)
    assert [lock.token for lock in kl.locks("seats")] == [token], "the next one's lock is left alone"


def test_an_error_inside_lets_go_too(kl: Front) -> None:
    with pytest.raises(KeyError), kl.lock(2) as row:
        row.replace(is_booked=1)
        raise KeyError
    assert kl.locks("seats") == []


def test_locks_on_several_rows(kl: Front) -> None:
    with kl.lock(2, "seats:1", 2, ms=60_000) as (first, second, again):
        assert (first.id, second.id, again.id) == (2, 1, 2)
        assert first.token == second.token
        assert [lock.id for lock in kl.locks("seats")] == [1, 2]
        second.replace(buyer=7, unlock=True)
        assert [lock.id for lock in kl.locks("seats")] == [2]
    assert kl.locks("seats") == []


def test_taken_rows_raise(kl: Front) -> None:
    with kl.lock(1, 2), pytest.raises(Locked, match="one of 0, 1 "), kl.lock(0, 1):
        pytest.fail("row 1 is another's")
    assert kl.locks("seats") == []
    with pytest.raises(NoRow), kl.lock(77):
        pytest.fail("there is no such row")


def test_a_lease_that_ended(kl: Front) -> None:
    with pytest.raises(NoLock), kl.lock(1, ms=1) as row:
        while kl.locks("seats"):
            pass
        row.replace(is_booked=1)
    assert kl.seek(1)["is_booked"] == 0


def test_a_lock_can_be_entered_again(kl: Front) -> None:
    lock = kl.lock(1)
    with lock as row:
        first = row.token
    with lock as row:
        assert row.token > first
