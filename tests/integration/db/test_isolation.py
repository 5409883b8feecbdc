"""Every table of every service, as the catalogue has it: a workspace reaches its own rows alone, by whatever SQL."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataaggregator.db import WORKSPACE_ROLE, Database
from dataaggregator.db.connection import Connection

pytestmark = pytest.mark.security

OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
TABLES = f"""
SELECT c.oid::regclass::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'workspace_id' AND attnotnull) AS owned,
       has_any_column_privilege('{WORKSPACE_ROLE}', c.oid, 'SELECT, INSERT, UPDATE')
           OR has_table_privilege('{WORKSPACE_ROLE}', c.oid, 'DELETE, TRUNCATE, REFERENCES, TRIGGER') AS open
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {OURS} ORDER BY 1"""
COLUMNS = """
SELECT quote_ident(attname) AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attname <> 'workspace_id', attnum"""
CONSTRAINTS = f"""
SELECT conrelid::regclass::text AS held, quote_ident(conname) AS name FROM pg_constraint
JOIN pg_namespace n ON n.oid = connamespace WHERE conrelid <> 0 AND contype IN ('c', 'f') AND {OURS}"""
KEYS = """
SELECT array_agg(quote_ident(attname)) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = $1::text::regclass AND indisprimary"""

# Both tables keep workspaces apart; by which column does each name the workspace, as the key pairs them?
REFERENCES = f"""
SELECT conrelid::regclass::text || '.' || conname AS name, EXISTS (
    SELECT FROM unnest(conkey, confkey) AS pair (here, there)
    JOIN pg_attribute h ON h.attrelid = conrelid AND h.attnum = here AND h.attname = 'workspace_id'
    JOIN pg_attribute t ON t.attrelid = confrelid AND t.attnum = there AND t.attname = 'workspace_id') AS held,
    convalidated AS validated
FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_class f ON f.oid = confrelid
JOIN pg_namespace n ON n.oid = connamespace
WHERE contype = 'f' AND c.relrowsecurity AND f.relrowsecurity AND {OURS}"""

# Of no workspace: up to where the feed has been cleared, one number for all.
SHARED = {"gateway.feed_floor"}
VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "gen_random_uuid()::text",
    "character varying(32)": "md5(random()::text)",
    "bytea": "decode(md5(random()::text), 'hex')",
    "boolean": "true",
    "smallint": "1",
    "integer": "(random() * 1e9)::int",
    "bigint": "(random() * 1e15)::bigint",
    "double precision": "random()",
    "timestamp with time zone": "clock_timestamp()",
    "interval": "interval '1 hour'",
    "json": "'{}'",
    "jsonb": "'{}'",
    "text[]": "'{}'",
    "uuid[]": "'{}'",
}


@dataclass(frozen=True)
class Table:
    """A table that a workspace may reach, and the statement that adds a row of any workspace to it."""

    name: str
    columns: tuple[str, ...]
    insert: str
    key: tuple[str, ...]

    def copy(self) -> str:
        """Of a row given as JSON; a row that has its key already is taken over."""
        names = ", ".join(self.columns)
        return f"""INSERT INTO {self.name} ({names}) OVERRIDING SYSTEM VALUE
                   SELECT {names} FROM json_populate_record(NULL::{self.name}, $1::text::json)
                   ON CONFLICT ({", ".join(self.key)}) DO UPDATE SET workspace_id = excluded.workspace_id"""


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    """Who owns all tables and sees all rows; in this database they need not make sense."""
    connection = await asyncpg.connect(database_url)
    for one in await connection.fetch(CONSTRAINTS):
        await connection.execute(f"ALTER TABLE {one['held']} DROP CONSTRAINT {one['name']}")
    yield connection
    await connection.close()


async def reachable(owner: Connection) -> list[Table]:
    found = []
    for row in await owner.fetch(TABLES):
        if row["open"] and row["name"] not in SHARED:
            columns = await owner.fetch(COLUMNS, row["name"])
            names = tuple(column["name"] for column in columns)
            values = ["$1::uuid", *(VALUES[column["type"]] for column in columns[1:])]
            insert = (
                f"INSERT INTO {row['name']} ({', '.join(names)}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})"
            )
            found.append(Table(row["name"], names, insert, tuple(await owner.fetchval(KEYS, row["name"]))))
    return found


async def rows_of(owner: Connection, table: Table, workspace: UUID) -> list[str]:
    rows = await owner.fetch(f"SELECT to_json(t)::text FROM {table.name} t WHERE workspace_id = $1", workspace)
    return [row[0] for row in rows]


async def test_whatever_a_workspace_reaches_is_forced_to_be_its_own(owner: Connection) -> None:
    tables = await owner.fetch(TABLES)
    assert {row["name"] for row in tables if row["open"]} >= {"connectors.secrets", "scheduler.runs", "executor.runs"}
    assert [
        row["name"]
        for row in tables
        if row["open"] and not (row["forced"] and row["owned"]) and row["name"] not in SHARED
    ] == []
    assert {row["name"] for row in tables} >= SHARED


async def test_no_table_without_a_workspace_is_written_by_one(owner: Connection) -> None:
    query = f"""SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {OURS}
                AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'workspace_id')
                AND (has_any_column_privilege('{WORKSPACE_ROLE}', c.oid, 'INSERT, UPDATE')
                     OR has_table_privilege('{WORKSPACE_ROLE}', c.oid, 'DELETE, TRUNCATE, REFERENCES, TRIGGER'))"""
    assert [row[0] for row in await owner.fetch(query)] == []


async def test_a_key_between_tables_of_workspaces_holds_the_workspace(database_url: str, database: Database) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        found = await connection.fetch(REFERENCES)
    finally:
        await connection.close()
    assert len(found) >= 20
    assert [row["name"] for row in found if not (row["held"] and row["validated"])] == []


async def test_a_row_refers_to_no_row_of_another_workspace(database_url: str, database: Database) -> None:
    mine, theirs, connector = uuid4(), uuid4(), uuid4()
    add = """INSERT INTO connectors.connectors (id, workspace_id, name, type, version, config, created_at, updated_at)
             VALUES ($1, $2, 'theirs', 'files', 1, '{}', now(), now())"""
    keep = "INSERT INTO connectors.secrets (connector_id, field, workspace_id, sealed) VALUES ($1, 'f', $2, 'x')"
    async with database.transaction(theirs) as tx:
        await tx.execute(add, connector, theirs)
        await tx.execute(keep, connector, theirs)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with database.transaction(mine) as tx:
            await tx.execute(keep.replace("'f'", "'g'"), connector, mine)


async def test_no_function_of_ours_works_with_more_rights_than_who_calls_it(owner: Connection) -> None:
    query = f"""SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                WHERE {OURS} AND p.prosecdef AND has_function_privilege('{WORKSPACE_ROLE}', p.oid, 'EXECUTE')"""
    assert await owner.fetch(query) == []


async def test_no_sql_of_a_workspace_reaches_a_row_of_another(owner: Connection, database: Database) -> None:
    mine, theirs = uuid4(), uuid4()
    tables = await reachable(owner)
    wrong = []
    for table in tables:
        for workspace in (mine, theirs):
            await owner.execute(table.insert, workspace)
        before = await rows_of(owner, table, theirs)
        wrong += [f"{table.name}: {told}" for told in await _tried(database, table, mine, theirs, before)]
        if await rows_of(owner, table, theirs) != before:
            wrong.append(f"{table.name}: another's rows have changed")
    assert wrong == []
    assert len(tables) >= 60


async def _tried(database: Database, table: Table, mine: UUID, theirs: UUID, there: Sequence[str]) -> Sequence[str]:
    """What of all that a workspace could try did not end as it must."""
    async with database.transaction(mine) as tx:
        seen = await tx.fetch(f"SELECT workspace_id FROM {table.name}")
    wrong = [] if [row["workspace_id"] for row in seen] == [mine] else ["it sees other rows"]
    changed = f"UPDATE {table.name} SET workspace_id = workspace_id"
    given_away = f"UPDATE {table.name} SET workspace_id = '{theirs}'"
    taken_over = there[0].replace(str(theirs), str(mine))
    for statement, right, *values in (
        (changed, "UPDATE 1"),
        (given_away, "denied"),
        (table.insert, "denied", theirs),
        (table.copy(), "denied", there[0]),
        (f"DELETE FROM {table.name}", "DELETE 1"),
        (f"TRUNCATE {table.name}", "denied"),
        # With the workspace in its key it is another row than theirs, and may be.
        (table.copy(), "INSERT 0 1" if "workspace_id" in table.key else "denied", taken_over),
    ):
        told = await _outcome(database, mine, statement, *values)
        if told not in (right, "denied"):
            wrong.append(f"{statement[:40]}… was answered {told}")
    return wrong


async def _outcome(database: Database, workspace: UUID, statement: str, *values: object) -> str:
    async with database.transaction(workspace) as tx:
        return await _answered(tx, statement, *values)


async def _answered(connection: Connection, statement: str, *values: object) -> str:
    try:
        async with connection.transaction():
            return str(await connection.execute(statement, *values))
    except asyncpg.InsufficientPrivilegeError:
        return "denied"


async def test_without_a_workspace_no_sql_reaches_a_row(owner: Connection, database: Database) -> None:
    some, tables = uuid4(), await reachable(owner)
    for table in tables:
        await owner.execute(table.insert, some)
    nobody = await database.connect("workspace")
    wrong = []
    try:
        for unset in ("RESET dataaggregator.workspace", "SET dataaggregator.workspace = ''"):
            await nobody.execute(unset)
            for table in tables:
                if await nobody.fetchval(f"SELECT count(*) FROM {table.name}"):
                    wrong.append(f"{table.name}: a row is seen")
                for statement, right, *values in (
                    (f"UPDATE {table.name} SET workspace_id = workspace_id", "UPDATE 0"),
                    (f"DELETE FROM {table.name}", "DELETE 0"),
                    (table.insert, "denied", some),
                ):
                    told = await _answered(nobody, statement, *values)
                    if told not in (right, "denied"):
                        wrong.append(f"{table.name}: {statement[:40]}… was answered {told}")
    finally:
        await nobody.close()
    assert wrong == []
