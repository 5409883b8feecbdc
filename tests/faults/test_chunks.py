"""A load in chunks whose run process is killed again and again: every row once, every chunk whole, each count once."""

import random
from typing import Any

import pytest

from dataaggregator.dataplane.failpoints import CHUNK_KILLS, KILLS, VARIABLE
from dataaggregator.settings import Settings
from services.executor.domain import Status
from tests.faults import invariants
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import TABLE, Warehouse
from tests.integration.executor.place import Place, open_place

pytestmark = pytest.mark.faults

ROWS = 20_000
ODD = {"name": "known", "inputs": ["rows"], "steps": [{"validate": [{"rule": "odd", "check": "id % 50 <> 0"}]}]}


def definition(place: Place, warehouse: str, write: str, chunk_rows: int) -> dict[str, Any]:
    connector = place.connect("postgres", url=warehouse)
    source = {**connector, "stream": "public.given", "read": "incremental", "cursor_field": "moved"}
    destination = {
        **connector, "stream": TABLE, "input": "known", "write": write, "chunk_rows": chunk_rows,
        "key": ["id"] if write == "merge" else [],
    }  # fmt: skip
    return {"name": "rows", "sources": {"rows": source}, "transformations": [ODD], "destinations": [destination]}


async def fill(warehouse: Warehouse, write: str, chance: random.Random) -> str:
    """The source, a destination that somebody has filled in part, and the oracle; gives the oracle's name."""
    key = " PRIMARY KEY" if write == "merge" else ""
    ties = chance.choice([1, 3, 800])
    await warehouse.connection.execute(
        f"""CREATE TABLE given AS SELECT n AS id, 'name ' || n AS name, n / {ties} AS moved
            FROM generate_series(1, {ROWS}) n ORDER BY hashint4(n);
        CREATE TABLE {TABLE} (id int{key}, name text, moved int);
        INSERT INTO {TABLE} SELECT n, 'old', 0 FROM generate_series({ROWS - 200}, {ROWS + 200}) n;
        CREATE TABLE oracle AS TABLE {TABLE};"""
    )
    if write == "merge":
        await warehouse.connection.execute("DELETE FROM oracle o USING given g WHERE o.id = g.id AND g.id % 50 <> 0")
    await warehouse.connection.execute("INSERT INTO oracle SELECT * FROM given WHERE id % 50 <> 0")
    return "oracle"


@pytest.mark.tries(1, 20)
@pytest.mark.parametrize("failpoint", sorted(KILLS | CHUNK_KILLS))
async def test_a_load_in_chunks_killed_at_a_failpoint_has_every_row_once(
    settings: Settings, warehouse: Warehouse, failpoint: str, chance: random.Random
) -> None:
    write = chance.choice(["append", "merge"])
    oracle = await fill(warehouse, write, chance)
    nth = 1 if failpoint == "run.before_outcome" else chance.randint(1, 4)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, f"{failpoint}:{nth}")
        async with open_place(settings, working=True) as place:
            await invariants.first_run_process()
            environment.delenv(VARIABLE)
            chunk_rows = chance.choice([1_500, 3_000, 4_999])
            run = await place.queue(definition=definition(place, warehouse.url, write, chunk_rows))
            ended = await place.ended(run.run_id)
            assert ended.status is Status.SUCCEEDED, await place.error_detail(run.run_id)
            assert ended.lost == 1, "the failpoint was not passed"
            ledger = await place.client.get(f"/api/runs/{run.run_id}/ledger")
            (receipt,) = ledger["receipts"]
            assert 4 <= receipt["chunks"] <= -(-ROWS // chunk_rows)
            assert sum(stage["rejected"] for stage in ledger["stages"]) == ROWS // 50
            aside = await place.client.get(f"/api/runs/{run.run_id}/rejected/summary")
            assert aside["rows"] == ROWS // 50
            await check_place(place, warehouse, Loaded(TABLE, oracle, str(run.run_id)))
