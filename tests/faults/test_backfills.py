"""A slot of a backfill whose run process is killed is loaded once, and the pipeline's own cursor stays where it is."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dataaggregator.dataplane.backfilling import slot_of
from dataaggregator.dataplane.failpoints import KILLS, VARIABLE
from dataaggregator.settings import Settings
from services.executor.domain import Status
from tests.faults import invariants
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import TABLE, Warehouse
from tests.integration.executor.place import Place, open_place

pytestmark = pytest.mark.faults

ROWS = 20_000
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
STATE = "SELECT * FROM _dataaggregator.state WHERE pipeline_id = $1 ORDER BY stream, source_stream"


def definition(place: Place, warehouse: str) -> dict[str, Any]:
    connector = place.connect("postgres", url=warehouse)
    source = {**connector, "stream": "public.given", "read": "incremental", "cursor_field": "moved"}
    to = {**connector, "stream": TABLE, "input": "rows", "write": "merge", "key": ["id"], "version_field": "moved"}
    return {"name": "rows", "sources": {"rows": source}, "destinations": [to]}


async def fill(warehouse: Warehouse) -> None:
    """A row a second."""
    await warehouse.connection.execute(
        f"""CREATE TABLE given AS SELECT n AS id, 'name ' || n AS name, timestamptz '2026-01-01Z' + n * interval '1 s'
            AS moved FROM generate_series(1, {ROWS}) n ORDER BY hashint4(n)"""
    )


async def spoil(warehouse: Warehouse, first: int, behind: int) -> str:
    """Rows go and change, also some newer than what the source has; gives the name of the oracle: as before in the
    interval, but for the newer ones."""
    await warehouse.connection.execute(
        f"""UPDATE {TABLE} SET name = 'newer', moved = moved + interval '1 year' WHERE id % 7 = 0;
        UPDATE {TABLE} SET name = 'spoilt' WHERE id % 7 = 1;
        DELETE FROM {TABLE} WHERE id % 7 = 2;
        CREATE TABLE oracle AS TABLE {TABLE};
        DELETE FROM oracle WHERE id >= {first} AND id < {behind} AND id % 7 <> 0;
        INSERT INTO oracle SELECT * FROM given WHERE id >= {first} AND id < {behind} AND id % 7 <> 0"""
    )
    return "oracle"


@pytest.mark.tries(1, 20)
@pytest.mark.parametrize("failpoint", sorted(KILLS))
async def test_a_slot_killed_at_a_failpoint_is_loaded_once(
    settings: Settings, warehouse: Warehouse, failpoint: str, chance: random.Random
) -> None:
    await fill(warehouse)
    first = chance.randrange(1, ROWS // 2)
    behind = chance.randrange(first + 1, ROWS + 2)
    pipeline, backfill = uuid4(), uuid4()
    start, end = (BEGUN + timedelta(seconds=n) for n in (first, behind))
    async with open_place(settings, working=True) as place:
        live = await place.queue(definition=definition(place, warehouse.url), pipeline_id=pipeline)
        assert (await place.ended(live.run_id)).status is Status.SUCCEEDED
    before = await warehouse.connection.fetch(STATE, pipeline)
    oracle = await spoil(warehouse, first, behind)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, failpoint)
        async with open_place(settings, working=True) as place:
            await invariants.first_run_process()
            environment.delenv(VARIABLE)
            run = await place.queue(
                definition=definition(place, warehouse.url), pipeline_id=pipeline, trigger="backfill",
                interval_start=start, interval_end=end, backfill_id=backfill,
            )  # fmt: skip
            ended = await place.ended(run.run_id)
            assert ended.status is Status.SUCCEEDED, await place.error_detail(run.run_id)
            assert ended.lost == 1, "the failpoint was not passed"
            ledger = await place.client.get(f"/api/runs/{run.run_id}/ledger")
            assert ledger["receipts"][0]["committed"] == behind - first
            assert await warehouse.connection.fetch(STATE, pipeline) == before
            loaded = Loaded(TABLE, oracle, str(run.run_id), slot_of(backfill, start, end).id)
            await check_place(place, warehouse, loaded)
