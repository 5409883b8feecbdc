"""The database: numbered migrations, one folder and one version table a schema, run by Alembic."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from dataaggregator.db.connection import Connection
from dataaggregator.db.errors import connecting, translated
from dataaggregator.db.identifiers import quote
from dataaggregator.db.roles import ensure_roles

ENVIRONMENT = Path(__file__).parent / "environment"
LOCK = 0x6461_7461_6D69_6772  # one migration of this database at a time


@dataclass(frozen=True)
class Revision:
    """One migration file: `0002_add_slots.py` is revision 0002, "add slots"."""

    id: str
    title: str


def history(folder: Path) -> list[Revision]:
    """The revisions of a folder, oldest first."""
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.py"))
    return [Revision(file.stem[:4], file.stem[5:].replace("_", " ")) for file in files]


def head(folder: Path) -> str:
    """The newest revision of a folder."""
    return history(folder)[-1].id


async def current(url: str, schema: str) -> str | None:
    """The revision a schema is at, None before its first migration."""
    async with _connected(url) as connection:
        return await _revision(connection, schema)


async def check(url: str, schema: str, folder: Path) -> bool:
    """Whether the schema is at the newest revision."""
    return await current(url, schema) == head(folder)


async def behind(url: str, schema: str, folder: Path) -> bool:
    """Whether the schema lacks revisions of this folder; one that a newer version has moved on is not behind."""
    found = await current(url, schema)
    return found is None or found < head(folder)


async def prepare(url: str) -> None:
    """The two roles, which `upgrade` makes too."""
    async with _connected(url) as connection:
        await ensure_roles(connection)


async def upgrade(url: str, schema: str, folder: Path) -> bool:
    """Bring a schema to its newest revision, roles and schema included; False if there was nothing to do."""
    async with _connected(url) as connection:
        if await _revision(connection, schema) == head(folder):
            return False
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        if await _revision(connection, schema) == head(folder):
            return False
        await ensure_roles(connection)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        await _run(url, schema, folder, lambda command, config: command.upgrade(config, "head"))
        return True


async def downgrade(url: str, schema: str, folder: Path, revision: str) -> None:
    """Take a schema back to a revision; `base` undoes all of them."""
    async with _connected(url) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await _run(url, schema, folder, lambda command, config: command.downgrade(config, revision))


async def stamp(url: str, schema: str, folder: Path, revision: str) -> None:
    """Write down that a schema is at a revision, without running anything; look with `check` first."""
    async with _connected(url) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await _run(url, schema, folder, lambda command, config: command.stamp(config, revision))


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    with connecting():
        connection = await asyncpg.connect(url, timeout=10)
    try:
        with translated():
            yield connection
    finally:
        await connection.close()


async def _revision(connection: Connection, schema: str) -> str | None:
    table = quote(schema, "alembic_version")
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        return None
    found: str | None = await connection.fetchval(f"SELECT version_num FROM {table}")
    return found


async def _run(url: str, schema: str, folder: Path, action: "Callable[..., None]") -> None:
    # Alembic and SQLAlchemy take half a second to import: only who has something to migrate pays for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url, timeout=10), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:

            def act(sync_connection: object) -> None:
                config = Config(attributes={"connection": sync_connection, "schema": schema})
                config.set_main_option("script_location", str(ENVIRONMENT))
                config.set_main_option("version_locations", str(folder))
                config.set_main_option("path_separator", "newline")
                action(command, config)

            await connection.run_sync(act)
            await connection.commit()
    finally:
        await engine.dispose()
