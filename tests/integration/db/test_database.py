"""The database: isolation of workspaces, the door of transactions, migrations."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataaggregator.db import Database, after_commit, ddl, migrate
from dataaggregator.db.roles import ensure_roles
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings

MIGRATION = """
from alembic import op
from dataaggregator.db import ddl
revision = "{revision}"
down_revision = {down}
def upgrade():
    {body}
def downgrade():
    op.execute("DROP TABLE shop.{table}")
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    body = (
        'ddl.grant(op, "shop"); op.execute("CREATE TABLE shop.goods (workspace_id uuid NOT NULL, name text)"); '
        'ddl.enable_isolation(op, "shop", "goods")'
    )
    first = MIGRATION.format(revision="0001", down=None, body=body, table="goods")
    (folder / "0001_goods.py").write_text(first)
    return folder


@pytest.fixture
async def shop(database_url: str, migrations: Path, settings: Settings) -> AsyncIterator[Database]:
    await migrate.upgrade(database_url, "shop", migrations)
    database = Database(database_url, settings)
    await database.open()
    yield database
    await database.close()


async def _fill(database: Database) -> tuple[UUID, UUID]:
    one, other = uuid4(), uuid4()
    for workspace, name in ((one, "apple"), (other, "pear")):
        async with database.transaction(workspace) as tx:
            await tx.execute("INSERT INTO shop.goods VALUES ($1, $2)", workspace, name)
    return one, other


async def test_a_new_connection_asks_nothing_and_takes_json_as_values(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two questions of each connection, of which a platform opens dozens."""

    async def asked(*_: object) -> None:
        raise AssertionError("the server was asked for a type")

    monkeypatch.setattr(asyncpg.Connection, "_introspect_type", asked)
    database = Database(database_url, settings)
    await database.open()
    async with database.platform() as tx:
        for name in ("json", "jsonb"):
            assert await tx.fetchval(f"SELECT $1::{name}", {"a": [1, None]}) == {"a": [1, None]}
    await database.close()


async def test_a_workspace_sees_only_its_own_rows(shop: Database) -> None:
    one, other = await _fill(shop)
    async with shop.transaction(one) as tx:
        assert [row["name"] for row in await tx.fetch("SELECT name FROM shop.goods")] == ["apple"]
        assert await tx.execute("UPDATE shop.goods SET name = 'x' WHERE workspace_id = $1", other) == "UPDATE 0"
        assert await tx.execute("DELETE FROM shop.goods WHERE workspace_id = $1", other) == "DELETE 0"


async def test_a_workspace_cannot_write_rows_of_another(shop: Database) -> None:
    one, other = await _fill(shop)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with shop.transaction(one) as tx:
            await tx.execute("INSERT INTO shop.goods VALUES ($1, 'stolen')", other)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with shop.transaction(one) as tx:
            await tx.execute("UPDATE shop.goods SET workspace_id = $1", other)


async def test_without_a_workspace_the_workspace_role_sees_nothing(shop: Database) -> None:
    await _fill(shop)
    connection = await shop.connect("workspace")
    try:
        assert await connection.fetchval("SELECT count(*) FROM shop.goods") == 0
        async with connection.transaction():
            await connection.execute("SELECT set_config('dataaggregator.workspace', $1, true)", str(uuid4()))
        assert await connection.fetchval("SELECT count(*) FROM shop.goods") == 0  # a reset setting reads ''
    finally:
        await connection.close()


async def test_the_workspace_is_forgotten_when_the_transaction_ends(shop: Database) -> None:
    one, _ = await _fill(shop)
    for _ in range(40):  # every connection of the pool has served somebody
        async with shop.transaction(one) as tx:
            await tx.fetchval("SELECT 1")
    async with shop.transaction(uuid4()) as tx:
        assert await tx.fetchval("SELECT count(*) FROM shop.goods") == 0
    async with shop._pool("workspace").acquire() as connection:
        assert not await connection.fetchval("SELECT current_setting('dataaggregator.workspace', true)")


async def test_the_platform_role_sees_all_workspaces(shop: Database) -> None:
    await _fill(shop)
    async with shop.platform() as tx:
        assert await tx.fetchval("SELECT count(*) FROM shop.goods") == 2


async def test_the_roles_own_nothing_and_cannot_turn_isolation_off(shop: Database) -> None:
    for role in ("workspace", "platform"):
        connection = await shop.connect("workspace" if role == "workspace" else "platform")
        try:
            for statement in (
                "ALTER TABLE shop.goods DISABLE ROW LEVEL SECURITY",
                "DROP POLICY workspace ON shop.goods",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()


async def test_what_waits_for_the_commit_runs_once_after_it(database: Database) -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append("called")

    async with database.platform() as tx:
        after_commit(tx, call)
        after_commit(tx, call)
        assert calls == []
    assert calls == ["called"]

    async def fail() -> None:
        async with database.platform() as tx:
            after_commit(tx, call)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert calls == ["called"]


async def test_a_lost_connection_is_a_transient_error(database: Database) -> None:
    async def lose() -> None:
        async with database.platform() as tx:
            await tx.execute("SET LOCAL ROLE NONE")
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Transient, match="database-unavailable"):
        await lose()
    await database.ping()


async def test_closing_waits_for_a_transaction_under_way_and_no_longer(database: Database) -> None:
    async with asyncio.timeout(10):
        async with database.platform() as tx:
            closing = asyncio.create_task(database.close())
            await asyncio.sleep(0)
            assert await tx.fetchval("SELECT 1") == 1
        await closing


async def test_a_server_that_is_not_there_is_a_transient_error(settings: Settings) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", settings)
    with pytest.raises(Transient, match="database-unavailable"):
        await database.open()
    await database.close()


async def test_json_goes_in_and_out_as_values(database: Database) -> None:
    async with database.platform() as tx:
        assert await tx.fetchval("SELECT $1::jsonb", {"a": [1, None, "x"]}) == {"a": [1, None, "x"]}


async def test_migrations_run_once_and_are_quick_when_nothing_is_to_do(database_url: str, migrations: Path) -> None:
    assert await migrate.current(database_url, "shop") is None
    assert await migrate.upgrade(database_url, "shop", migrations) is True
    assert await migrate.upgrade(database_url, "shop", migrations) is False
    assert await migrate.check(database_url, "shop", migrations) is True
    body = 'op.execute("CREATE TABLE shop.orders (workspace_id uuid)")'
    second = MIGRATION.format(revision="0002", down='"0001"', body=body, table="orders")
    (migrations / "0002_orders.py").write_text(second)
    assert await migrate.check(database_url, "shop", migrations) is False
    assert await migrate.upgrade(database_url, "shop", migrations) is True
    assert await migrate.current(database_url, "shop") == "0002"
    assert [r.title for r in migrate.history(migrations)] == ["goods", "orders"]
    await migrate.downgrade(database_url, "shop", migrations, "0001")
    assert await migrate.current(database_url, "shop") == "0001"
    await migrate.stamp(database_url, "shop", migrations, "0002")
    assert await migrate.current(database_url, "shop") == "0002"


async def test_a_migration_that_fails_changes_nothing(database_url: str, migrations: Path) -> None:
    body = 'op.execute("CREATE TABLE shop.half (a int)"); op.execute("SELECT 1/0")'
    second = MIGRATION.format(revision="0002", down='"0001"', body=body, table="half")
    (migrations / "0002_half.py").write_text(second)
    with pytest.raises(Exception, match="division by zero"):
        await migrate.upgrade(database_url, "shop", migrations)
    assert await migrate.current(database_url, "shop") is None


async def test_an_ordinary_login_user_becomes_the_roles(
    database_url: str, migrations: Path, settings: Settings
) -> None:
    owner = await asyncpg.connect(database_url)
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute("DROP ROLE IF EXISTS ordinary")
    await owner.execute("CREATE ROLE ordinary LOGIN CREATEROLE PASSWORD 'x'")
    await owner.execute("GRANT dataaggregator_workspace, dataaggregator_platform TO ordinary WITH ADMIN OPTION")
    await owner.execute(f"ALTER DATABASE {name} OWNER TO ordinary")
    await owner.close()
    place = database_url.split("@", 1)[1]
    url = f"postgresql://ordinary:x@{place}"
    connection = await asyncpg.connect(url)
    await ensure_roles(connection)
    await connection.close()
    await migrate.upgrade(url, "shop", migrations)
    database = Database(url, settings)
    await database.open()
    try:
        one, _ = await _fill(database)
        async with database.transaction(one) as tx:
            assert await tx.fetchval("SELECT count(*) FROM shop.goods") == 1
    finally:
        await database.close()
    owner = await asyncpg.connect(database_url)
    await owner.execute("REASSIGN OWNED BY ordinary TO CURRENT_USER")
    await owner.execute("DROP OWNED BY ordinary")
    await owner.close()


def test_every_bus_table_belongs_to_a_workspace() -> None:
    for columns in ddl.BUS_TABLES.values():
        assert "workspace_id uuid NOT NULL" in columns


async def test_arrays_of_built_in_types_are_sent_without_asking_what_they_are(shop: Database) -> None:
    moment = datetime(2026, 11, 29, 12, tzinfo=UTC)
    sent = {
        "bool": True, "bytea": b"\0a", "int2": 7, "int4": 70_000, "int8": 2**40, "float8": 0.5, "timestamptz": moment,
        "uuid": uuid4(),
    }  # fmt: skip
    asked = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH RECURSIVE typeinfo%'"
    async with shop.platform() as tx:
        for name, value in sent.items():
            statement = f"SELECT $1::{name}[], ($1::{name}[])[1]::text, $2::{name}::text"
            got = await tx.fetchrow(statement, [value, None], value)
            assert got is not None
            assert (got[0], got[1]) == ([value, None], got[2]), name
        assert await tx.fetchval(asked) == 0
        assert await tx.fetchval("SELECT $1::inet[] || $2::int8[]::text::inet[]", ["10.0.0.1"], []) is not None
        assert await tx.fetchval(asked) == 1, "of any other it asks as ever"
