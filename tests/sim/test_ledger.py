"""The path check at scale: every acknowledged write lies on its row's one path, through crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import locks
from storage.locks import Lease
from storage.table import Table
from tests.proof import scaled
from tests.sim.ledger import Ledger

OPERATIONS = scaled(1_000_000, 50_000_000)

pytestmark = pytest.mark.proof


@pytest.mark.timeout(36_000)
def test_each_row_has_one_path(figure: Callable[[str, int], None]) -> None:
    ledger = Ledger(1)
    ledger.run(OPERATIONS)
    print(f"{ledger.operations:,} operations, {ledger.writes:,} writes, {ledger.deaths} deaths")
    figure("B2 operations, one path per row", ledger.operations)
    assert ledger.troubles() == []
    assert ledger.writes >= OPERATIONS // 8
    assert ledger.deaths >= 4


def test_writes_without_a_token_check_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_lease(table: Table, row: int, token: int, now: int) -> Lease | None:
        return table.leases.get(row) or Lease(token, now + 1, None, ((table, row),))

    def release(*_: Any) -> None: ...

    monkeypatch.setattr(locks, "live_lease", any_lease)
    monkeypatch.setattr(locks, "release", release)
    ledger = Ledger(2)
    ledger.run(20_000)
    assert any("fork" in trouble for trouble in ledger.troubles())
