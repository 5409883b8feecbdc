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
