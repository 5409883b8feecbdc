"""A slot of a backfill begins where its interval does, wherever the pipeline itself has come to or is to go on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dataaggregator.ids import new_id
from services.executor.domain import Status
from tests.integration.executor.place import Place

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
GIVEN = """
CREATE TABLE placed AS SELECT i::bigint AS id, timestamptz '2026-01-01 00:00Z' + i * interval '1 second' AS at
FROM generate_series(1, 100) i; ALTER TABLE placed ADD PRIMARY KEY (id)"""


def definition(place: Place, warehouse: str, **more: Any) -> dict[str, Any]:
    connector = place.connect("postgres", url=warehouse)
    source = {**connector, "stream": "public.placed", "read": "incremental", "cursor_field": "at"}
    to = {**connector, "stream": "public.there", "input": "placed", "write": "merge", "key": ["id"], **more}
    return {"name": "copy-placed", "sources": {"placed": source}, "destinations": [to]}


@pytest.mark.parametrize("more", [{}, {"chunk_rows": 3}], ids=["whole", "in chunks"])
async def test_a_slot_brings_what_lies_before_the_cursor_of_its_pipeline(
    workplace: Place, empty_database_url: str, more: dict[str, Any]
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(GIVEN)
    asked = {"pipeline_id": new_id(), "definition": definition(workplace, empty_database_url, **more)}
    live = await workplace.queue(**asked)
    assert (await workplace.ended(live.run_id)).status is Status.SUCCEEDED, await workplace.error_detail(live.run_id)
    await connection.execute("DELETE FROM there WHERE id BETWEEN 5 AND 25")
    start, end = (BEGUN + timedelta(seconds=second) for second in (10, 20))
    slot = await workplace.queue(
        **asked, backfill_id=new_id(), interval_start=start, interval_end=end, trigger="backfill"
    )
    assert (await workplace.ended(slot.run_id)).status is Status.SUCCEEDED, await workplace.error_detail(slot.run_id)
    there = await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM there WHERE id BETWEEN 5 AND 25")
    await connection.close()
    assert there == list(range(10, 20))
