"""What drifted is recorded whatever it is called, and not without bound (SPEC C1, A7). Real PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.audit.record import Outcome
from proxy.call import Call
from proxy.guard.contracts import Contracts
from proxy.guard.drift_record import DriftLedger
from registry.database.pool import create_pool
from tests.unit.contracts.calls import READ, catalogue, lock_of, server

SCHEMA = {"type": "object"}


@pytest.fixture
async def told(database) -> AsyncIterator[tuple[DriftLedger, list[str], Any]]:
    """A ledger, the names in the rows that it has written, and its pool."""
    names: list[str] = []

    async def record(call: Call, outcome: Outcome) -> bool:
        names.append(f"{outcome.decision} {call.target}")
        return True

    pool = await create_pool(database.dsn("postern_proxy"))
    yield DriftLedger(pool, "proxy-1", record, 300.0), names, pool
    await pool.close()


def drifted(*names: str) -> Contracts:
    contracts = Contracts(server(contract={"drift": "strict"}), lock_of(READ))
    live = catalogue(READ, *({"name": name, "inputSchema": SCHEMA} for name in names))
    contracts.learn(contracts.compare(live), contracts.revision)
    return contracts


async def test_name_that_no_database_holds_is_recorded_all_the_same(told) -> None:
    """NUL, half a character, a name longer than an index may have: a server must not silence its watch by a name."""
    ledger, names, pool = told
    strange = ["a\0b", "\ud800", "x" * 50_000, "\x1b[2J", "x" * 49_999 + "y"]
    assert await ledger.publish(drifted(*strange))
    assert len(names) == len(strange)
    kept = {row["name"] for row in await pool.fetch("select name from contract_drift")}
    assert {"a\\u0000b", "\\ud800", "\\u001b[2J"} < kept
    assert len(kept) == len(strange)
    assert await ledger.publish(drifted(*strange))
    assert len(names) == len(strange)
    assert await ledger.publish(drifted())
    assert [each.split()[0] for each in names[len(strange) :]] == ["contract.restored"] * len(strange)
    assert await pool.fetch("select 1 from contract_drift") == []


async def test_thousands_of_strange_things_are_a_hundred_rows_and_a_number(told) -> None:
    ledger, names, pool = told
    assert await ledger.publish(drifted(*(f"t{number}" for number in range(3_000))))
    assert len(names) == 101
    rows = await pool.fetch("select detail from contract_drift where kind = 'lock'")
    assert [row["detail"] for row in rows] == ["2900 more things are not as pinned"]
