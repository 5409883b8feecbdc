"""postgres: the conformance suite on a real server."""

import datetime
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.conformance import Rig, conformance
from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane.inflight import IN_FLIGHT_BYTES
from dataaggregator_connectors.postgres import CONNECTOR
from dataaggregator_connectors.postgres.config import PostgresConfig

SCHEMA: dict[str, pa.DataType] = {
    "id": pa.int64(),
    "amount": pa.decimal128(12, 2),
    "name": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
    "day": pa.date32(),
    "key": pa.uuid(),
    "document": pa.json_(pa.string()),
    "raw": pa.binary(),
    "tags": pa.list_(pa.int32()),
    "good": pa.bool_(),
    "share": pa.float64(),
}
ROWS = pa.Table.from_pylist(
    [
        {
            "id": n,
            "amount": Decimal(n) / 4,
            "name": None if n == 2 else f"naïve\t{n}\\N\n",
            "at": datetime.datetime(2026, 1, 1, 0, 0, 0, n, tzinfo=datetime.UTC),
            "day": datetime.date(1999, 12, n),
            "key": uuid.UUID(int=n).bytes,
            "document": f'{{"n": {n}}}',
            "raw": bytes([0, n]),
            "tags": [n, None],
            "good": n % 2 == 0,
            "share": n / 3,
        }
        for n in range(1, 6)
    ],
    schema=pa.schema(SCHEMA),
)
CREATE = """CREATE TABLE IF NOT EXISTS seeded (id bigint PRIMARY KEY, amount numeric(12,2), name text, at timestamptz,
    day date, key uuid, document jsonb, raw bytea, tags int[], good boolean, share double precision)"""


class PostgresRig(Rig):
    def __init__(self, url: str, context: Context) -> None:
        self.config = PostgresConfig.model_validate({"url": url})
        self.context = context
        self.rows = ROWS
        self.target = "marts.held"
        self._url = url

    async def seed(self, rows: pa.Table) -> str:
        connection = await asyncpg.connect(self._url)
        await connection.execute(CREATE)
        records = [tuple(row.values()) for row in rows.to_pylist()]
        await connection.executemany(
            f"INSERT INTO seeded VALUES ({', '.join(f'${n + 1}' for n in range(len(rows.schema)))})", records
        )
        await connection.close()
        return "public.seeded"

    async def held(self) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self._url)
        there = await connection.fetchval("SELECT to_regclass('marts.held') IS NOT NULL")
        found = await connection.fetch("SELECT * FROM marts.held ORDER BY id") if there else []
        await connection.close()
        return [dict(row) for row in found]

    async def drop_connections(self) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.execute(
            """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND datname = current_database()"""
        )
        await connection.close()


@pytest.fixture
def rig(empty_database_url: str, context: Context) -> PostgresRig:
    return PostgresRig(empty_database_url, context)


TestPostgres = conformance(CONNECTOR)


async def test_what_is_read_comes_in_batches_that_wait_whole(rig: PostgresRig) -> None:
    """Several of them are on their way at once; one that is larger than what may wait would be cut."""
    assert CONNECTOR.source is not None
    source = CONNECTOR.source(rig.config, rig.context)
    query = "SELECT n, repeat('x', 100) AS text FROM generate_series(1, 100000) AS n"
    sizes = [batch.rows.nbytes async for batch in source.read(ReadRequest(query=query))]
    await source.close()
    assert sum(sizes) > 10_000_000
    assert max(sizes) <= IN_FLIGHT_BYTES
