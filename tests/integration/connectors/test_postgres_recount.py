"""The rows of a load counted again in PostgreSQL: what can be told, and what is said where nothing can."""

import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, Recount, WriteKind
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from tests.sql import execute

ROWS = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})


def _destination(url: str, context: Context) -> PostgresDestination:
    return PostgresDestination(PostgresConfig.model_validate({"url": url}), context)


@pytest.fixture
def destination(empty_database_url: str, context: Context) -> PostgresDestination:
    return _destination(empty_database_url, context)


async def _loaded(destination: PostgresDestination, rows: pa.Table = ROWS, **more: object) -> LoadRequest:
    given = {"write": WriteKind.MERGE, "key": ("id",), "pipeline_id": new_id()} | more
    load = LoadRequest(run_id=new_id(), stream="public.held", epoch=1, **given)  # type: ignore[arg-type]
    await destination.prepare(load, rows.schema)
    await destination.begin(load)
    for batch in rows.to_batches():
        await destination.write(batch)
    await destination.commit({})
    return load


async def test_of_merged_rows_those_a_later_load_has_updated_are_its(destination: PostgresDestination) -> None:
    first = await _loaded(destination)
    second = await _loaded(destination, pa.table({"id": [1, 2], "name": ["a", "new"]}))
    assert await destination.recount(first, 30) == Recount(3, 2)
    assert await destination.recount(second, 30) == Recount(1, 1)
    await destination.close()


async def test_all_chunks_of_a_load_are_counted(destination: PostgresDestination, empty_database_url: str) -> None:
    load = await _loaded(destination)
    other = await _loaded(destination, pa.table({"id": [4], "name": ["d"]}))
    await execute(
        empty_database_url,
        f"UPDATE _dataaggregator.loads SET run_id = '{load.run_id}', chunk = 1 WHERE run_id = '{other.run_id}'",
    )
    assert await destination.recount(load, 30) == Recount(4, 4)
    await destination.close()


async def test_a_ledger_of_before_is_brought_up_to_date_and_its_loads_cannot_be_told(
    destination: PostgresDestination, empty_database_url: str, context: Context
) -> None:
    old = await _loaded(destination)
    await execute(empty_database_url, "ALTER TABLE _dataaggregator.loads DROP COLUMN txid, DROP COLUMN note")
    later = _destination(empty_database_url, context)
    held = await later.read_back(old)
    assert held is not None
    assert (held.rows, held.note) == (3, "")
    new = await _loaded(later, pa.table({"id": [4], "name": ["d"]}))
    await later.close()
    told = await destination.recount(old, 30)
    assert told == Recount(3, None, "The load is too old for its rows to be told from others.")
    assert await destination.recount(new, 30) == Recount(1, 1)
    await destination.close()


@pytest.mark.parametrize(("since", "unchanged"), [(-(2**32), 3), (2**31 - 1000, 0), (2**31, None)])
async def test_numbers_of_transactions_that_may_have_come_again_prove_nothing(
    destination: PostgresDestination, empty_database_url: str, since: int, unchanged: int | None
) -> None:
    load = await _loaded(destination)
    await execute(empty_database_url, f"UPDATE _dataaggregator.loads SET txid = txid - {since}")
    told = await destination.recount(load, 30)
    assert told is not None
    assert told.unchanged == unchanged
    await destination.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE held RENAME TO kept; CREATE VIEW held AS SELECT * FROM kept", "cannot be counted: "),
        ("INSERT INTO held SELECT n, '' FROM generate_series(4, 1000000) n", "took too long"),
    ],
)
async def test_why_nobody_can_tell_is_said(
    destination: PostgresDestination, empty_database_url: str, statement: str, told: str
) -> None:
    load = await _loaded(destination)
    await execute(empty_database_url, statement)
    found = await destination.recount(load, 0.02)
    assert found is not None
    assert (found.written, found.unchanged, told in found.detail) == (3, None, True), found.detail
    await destination.close()
