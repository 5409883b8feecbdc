"""postgres, names: whatever a table or column is called, it is that and nothing else, or it is refused."""

import asyncpg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import WriteKind
from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.sql import Table, parse_table, quote
from tests.integration.connectors.test_postgres_loads import destination, fill, load
from tests.names import NAMES

pytestmark = pytest.mark.security

HOSTILE = [
    'a"b', "a'b", "a;DROP TABLE held;--", "a.b", '"', "--", "/*", "\\", "$1", "%s", "{}", "Select", "ü" * 30, " ",
    "a\nb", "\t", "'; --", '"; DROP SCHEMA public CASCADE; --', "id ", "a" * 63, "😀", "_dataaggregator_position",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_makes_the_round_trip(empty_database_url: str, context: Context, name: str) -> None:
    held = destination(empty_database_url, context)
    stream = str(Table("public", name))
    write = WriteKind.APPEND if name == "_dataaggregator_position" else WriteKind.MERGE
    for _ in range(2):
        request = load(stream, write, key=("key",))
        await fill(held, request, pa.table({"key": [1], name: ["x"]}))
        await held.commit({})
    await held.close()
    connection = await asyncpg.connect(empty_database_url)
    row = await connection.fetchrow(f"SELECT * FROM {quote(name)}")
    assert row is not None
    assert dict(row) == {"key": 1, name: "x"}
    await connection.close()


async def test_whatever_is_quoted_is_one_name_to_the_server(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE held (id int)")
    refused = []
    for name in NAMES:
        try:
            quoted = quote(name)
        except Invalid:
            refused.append(name)
            continue
        await connection.execute(f"CREATE TABLE {quoted} ({quoted} int); INSERT INTO {quoted} ({quoted}) VALUES (1)")
        row = await connection.fetchrow(f"SELECT {quoted} FROM {quoted} WHERE {quoted} = 1")
        assert row is not None
        assert dict(row) == {name: 1}
        there = (
            "SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        assert set(await connection.fetchval(there)) == {"held", name}
        await connection.execute(f"DROP TABLE {quoted}")
    await connection.close()
    assert set(refused) == {"", "\0", "a\0b", "\ud800", "a" * 64, "\u00e9" * 32}
    assert len(NAMES) >= 300


@given(st.text(max_size=70))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_quoted_so_that_it_reads_back_or_is_refused(name: str) -> None:
    try:
        quoted = quote(name)
    except Invalid:
        assert not name or "\0" in name or len(name.encode(errors="surrogatepass")) > 63 or not name.isprintable()
        return
    inside = quoted[1:-1]
    assert '"' not in inside.replace('""', "")
    assert inside.replace('""', '"') == name
    assert parse_table(str(Table("public", name))) == Table("public", name)
