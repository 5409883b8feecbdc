"""Statements on a server, in a connection of their own."""

import asyncpg


async def execute(url: str, *statements: str) -> None:
    """One after the other, each by itself."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def stored(url: str) -> list[str]:
    """Every row of every table of ours as text: what must never be told is looked for in them."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^pg_'")
        return [
            row[0]
            for schema, table in tables
            for row in await connection.fetch(f'SELECT t::text FROM {schema}."{table}" t')
        ]
    finally:
        await connection.close()
