"""The rows of the benchmarks of the data plane: orders of 12 mixed columns, and whether all of them arrived."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg

COLUMNS = """id bigint NOT NULL, customer_id int NOT NULL, store_id smallint NOT NULL, amount numeric(12,2) NOT NULL,
discount float8, note text, city text NOT NULL, paid bool NOT NULL, ordered_on date NOT NULL,
created_at timestamptz NOT NULL, ref uuid NOT NULL, attributes jsonb"""
SCHEMA = {
    "id": "bigint",
    "customer_id": "integer",
    "store_id": "smallint",
    "amount": "decimal(12,2)",
    "discount": "double",
    "note": "text",
    "city": "text",
    "paid": "boolean",
    "ordered_on": "date",
    "created_at": "timestamptz",
    "ref": "uuid",
    "attributes": "json",
}
"""The same types, as a pipeline says them of a source that does not know them."""
_ROWS = """INSERT INTO orders SELECT n, n % 100003, n % 300, (n % 1000003)::numeric / 100,
CASE WHEN n % 7 = 0 THEN NULL ELSE (n % 97) / 97.0 END, CASE WHEN n % 5 = 0 THEN NULL ELSE 'order note ' || n END,
(ARRAY['Zürich', 'København', 'Łódź', '東京', 'Paris'])[1 + n % 5], n % 3 = 0, date '2024-01-01' + (n % 730)::int,
timestamptz '2024-01-01' + n * interval '1 millisecond', md5(n::text)::uuid,
CASE WHEN n % 4 = 0 THEN NULL ELSE jsonb_build_object('n', n, 'tag', 'x' || n % 10) END
FROM generate_series(1::bigint, $1::bigint) AS n"""
_CHECKSUM = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric)::text FROM {} t"


async def make(connection: asyncpg.Connection, rows: int) -> None:
    """`orders` with so many rows."""
    await connection.execute(f"CREATE TABLE orders ({COLUMNS})")
    await connection.execute(_ROWS, rows)
    await connection.execute("VACUUM ANALYZE orders")


async def make_target(connection: asyncpg.Connection) -> None:
    """`target`, empty and of the same columns."""
    await connection.execute("DROP TABLE IF EXISTS target")
    await connection.execute(f"CREATE TABLE target ({COLUMNS})")


async def see_the_same(connection: asyncpg.Connection, held: str, wanted: str) -> None:
    """Raises unless both, a table or a query in parentheses each, have the same rows, whatever their order."""
    found, expected = [await connection.fetchrow(_CHECKSUM.format(one)) for one in (held, wanted)]
    if found != expected:
        raise RuntimeError(f"{held} has {found}, where {wanted} has {expected}: rows and the sum of their hashes")


async def copied(connection: asyncpg.Connection, query: str | None = None) -> AsyncIterator[bytes]:
    """What a binary COPY of a query gives, or of all `orders`; the reader may lag 32 chunks behind."""
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=32)

    async def read() -> None:
        if query is None:
            await connection.copy_from_table("orders", output=chunks.put, format="binary")
        else:
            await connection.copy_from_query(query, output=chunks.put, format="binary")
        await chunks.put(None)

    reading = asyncio.create_task(read())
    while (chunk := await chunks.get()) is not None:
        yield chunk
    await reading


async def pipe(url: str, query: str | None = None) -> None:
    """A binary COPY out of one connection straight into that of another, one transaction: `orders`, or a query."""
    reader, writer = await asyncpg.connect(url), await asyncpg.connect(url)
    async with writer.transaction():
        await writer.copy_to_table("target", source=copied(reader, query), format="binary")
    await asyncio.gather(reader.close(), writer.close())
