"""postgres, loading: an unanswered COMMIT is cleared up, tables grow or refuse, the undecoded road keeps every byte."""

import asyncio
import contextlib
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, SchemaPolicy, WriteKind
from dataaggregator.connector.source import ReadMode, ReadRequest
from dataaggregator.errors import Invalid, PlatformError, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import PostgresSource

ROWS = pa.table({"id": [1, 2, 3], "name": ["a", "b", None]})


class CuttingProxy:
    """Passes bytes to the server; at the word COMMIT it cuts, before or after the server has seen it."""

    def __init__(self, url: str, *, deliver: bool) -> None:
        self._to, self._deliver = urlsplit(url), deliver
        self.armed = True
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "CuttingProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        login = self._to.netloc.rpartition("@")[0]
        return urlunsplit(self._to._replace(netloc=f"{login}@127.0.0.1:{port}"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        down = asyncio.create_task(self._down(up_reader, writer))
        self._pipes.add(down)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.armed and b"COMMIT\x00" in data:
                    self.armed = False
                    down.cancel()
                    if self._deliver:
                        up_writer.write(data)
                        await up_writer.drain()
                    writer.transport.abort()
                    break
                up_writer.write(data)
                await up_writer.drain()
        up_writer.close()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


def load(stream: str = "public.held", write: WriteKind = WriteKind.APPEND, **more: Any) -> LoadRequest:
    given: dict[str, Any] = {"run_id": new_id(), "pipeline_id": new_id(), "epoch": 1} | more
    return LoadRequest(stream=stream, write=write, **given)


def destination(url: str, context: Context) -> PostgresDestination:
    return PostgresDestination(PostgresConfig.model_validate({"url": url}), context)


def source(url: str, context: Context) -> PostgresSource:
    return PostgresSource(PostgresConfig.model_validate({"url": url}), context)


async def fill(held: PostgresDestination, request: LoadRequest, rows: pa.Table) -> None:
    await held.prepare(request, rows.schema)
    await held.begin(request)
    for batch in rows.to_batches():
        await held.write(batch)


async def execute(url: str, *statements: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    found: list[asyncpg.Record] = []
    for statement in statements:
        found = await connection.fetch(statement)
    await connection.close()
    return found


async def failure(work: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await work
    return caught.value


async def test_a_commit_whose_answer_was_lost_is_found_in_the_ledger(empty_database_url: str, context: Context) -> None:
    async with CuttingProxy(empty_database_url, deliver=True) as proxy:
        held, request = destination(proxy.url, context), load()
        await fill(held, request, ROWS)
        receipt = await held.commit({})
        assert not proxy.armed
        assert receipt.rows == 3
        assert await held.read_back(request) == receipt
        await held.close()
    assert len(await execute(empty_database_url, "SELECT FROM held")) == 3


async def test_a_commit_that_never_arrived_left_nothing(empty_database_url: str, context: Context) -> None:
    async with CuttingProxy(empty_database_url, deliver=False) as proxy:
        held, request = destination(proxy.url, context), load()
        await fill(held, request, ROWS)
        error = await failure(held.commit({}))
        assert isinstance(error, Transient)
        assert error.code == "load-rolled-back"
        assert await execute(empty_database_url, "SELECT FROM held") == []
        await fill(held, request, ROWS)
        assert (await held.commit({})).rows == 3
        await held.close()


async def test_a_newer_epoch_ends_a_load_that_holds_the_fence(empty_database_url: str, context: Context) -> None:
    pipeline_id = new_id()
    zombie, heir = destination(empty_database_url, context), destination(empty_database_url, context)
    await fill(zombie, load(pipeline_id=pipeline_id, epoch=1), ROWS)
    await fill(heir, load(pipeline_id=pipeline_id, epoch=2), ROWS)
    assert isinstance(await failure(zombie.commit({})), PlatformError)
    await heir.commit({})
    assert len(await execute(empty_database_url, "SELECT FROM held")) == 3
    await zombie.close()
    await heir.close()


async def test_an_unfit_column_is_refused_before_the_load_and_named(empty_database_url: str, context: Context) -> None:
    await execute(empty_database_url, "CREATE TABLE held (id bigint, name date)")
    error = await failure(destination(empty_database_url, context).prepare(load(), ROWS.schema))
    assert error.code == "column-incompatible"
    assert [wrong.field for wrong in error.errors] == ["name"]


async def test_a_value_that_does_not_fit_names_its_column(empty_database_url: str, context: Context) -> None:
    await execute(empty_database_url, "CREATE TABLE held (id smallint)")
    held = destination(empty_database_url, context)
    error = await failure(fill(held, load(), pa.table({"id": [1, 70_000]})))
    assert isinstance(error, Invalid)
    assert error.code == "value-does-not-fit"
    assert "id" in error.detail
    await held.close()


async def test_new_columns_are_added_or_refused_by_policy(empty_database_url: str, context: Context) -> None:
    await execute(empty_database_url, "CREATE TABLE held (id bigint)")
    held = destination(empty_database_url, context)
    error = await failure(held.prepare(load(schema_policy=SchemaPolicy.FREEZE), ROWS.schema))
    assert error.code == "schema-frozen"
    changes = (await held.prepare(load(), ROWS.schema)).changes
    assert [(change.kind, change.field, change.after) for change in changes] == [("added", "name", "text")]


async def test_a_look_foresees_what_will_be_widened_and_no_longer_be_required(
    empty_database_url: str, context: Context
) -> None:
    await execute(empty_database_url, "CREATE TABLE held (id integer, name varchar(3), must text NOT NULL)")
    held, schema = destination(empty_database_url, context), pa.table({"id": [0.5], "name": ["a"]}).schema
    foreseen = (await held.foresee(load(), schema)).changes
    assert [(one.field, one.after) for one in foreseen] == [("id", "double precision"), ("must", "text")]
    assert (await held.foresee(load(), schema)).changes == foreseen
    assert (await held.prepare(load(), schema)).changes == foreseen
    assert (await held.prepare(load(), schema)).changes == ()
    await held.close()


async def test_a_missing_permission_is_named(empty_database_url: str, context: Context) -> None:
    await execute(
        empty_database_url,
        "DROP ROLE IF EXISTS may_little",
        "CREATE ROLE may_little LOGIN PASSWORD 'little-little'",
    )
    split = urlsplit(empty_database_url)
    url = urlunsplit(split._replace(netloc=f"may_little:little-little@{split.netloc.rpartition('@')[2]}"))
    error = await failure(destination(url, context).prepare(load(), ROWS.schema))
    assert error.code == "connector-permission"
    assert "permission denied" in error.detail
    await execute(empty_database_url, "DROP ROLE may_little")


async def test_the_undecoded_road_keeps_every_value(empty_database_url: str, context: Context) -> None:
    await execute(
        empty_database_url,
        "CREATE TABLE seeded (id bigint, day date, at timestamptz, amount numeric, grid int[])",
        """INSERT INTO seeded VALUES (1, 'infinity', '-infinity', 'NaN', '{{1,2},{3,4}}'),
        (2, NULL, '294276-01-01', 1e-30, '[5:6]={1,2}')""",
    )
    origin, held, request = source(empty_database_url, context), destination(empty_database_url, context), load()
    await held.prepare(request, await origin.schema(ReadRequest(stream="public.seeded")))
    copy = await origin.copy_binary(ReadRequest(stream="public.seeded"))
    assert await held.accepts_binary(request, copy)
    await held.begin(request)
    assert await held.write_binary(copy) == 2
    assert (await held.commit({})).rows == copy.finished.rows == 2
    same = "SELECT s::text FROM seeded s EXCEPT ALL SELECT h::text FROM held h"
    assert await execute(empty_database_url, same) == []
    await held.close()
    await origin.close()


async def test_what_arrow_cannot_hold_is_refused_with_the_column_named(
    empty_database_url: str, context: Context
) -> None:
    for expression in ("'infinity'::date", "'NaN'::numeric", "'{{1},{2}}'::int[]", "'24:00'::time", "1e-30::numeric"):
        origin = source(empty_database_url, context)
        with pytest.raises(Invalid) as caught:
            [batch async for batch in origin.read(ReadRequest(query=f"SELECT {expression} AS odd"))]
        await origin.close()
        assert "odd" in caught.value.detail


@pytest.mark.parametrize("type_", ["timestamptz", "numeric", "uuid", "text", "double precision"])
async def test_ties_and_precision_at_the_cursor_lose_and_double_nothing(
    empty_database_url: str, context: Context, type_: str
) -> None:
    values = {
        "timestamptz": ["2026-01-01 00:00:00.000001", "2026-01-01 00:00:00.000002", "2026-01-01 00:00:00.000003"],
        "numeric": ["0.12345678901234567", "0.12345678901234568", "7"],
        "uuid": [f"00000000-0000-0000-0000-00000000000{n}" for n in range(3)],
        "text": ["a'; DROP TABLE seeded --", "b", "c"],
        "double precision": ["0.1", "0.30000000000000004", "0.5"],
    }[type_]
    await execute(empty_database_url, f"CREATE TABLE seeded (id serial, at {type_} NOT NULL)")
    connection = await asyncpg.connect(empty_database_url)
    origin, cursor, read = source(empty_database_url, context), None, []
    for value in values:
        for _ in range(2):
            await connection.execute(f"INSERT INTO seeded (at) VALUES ($1::text::{type_})", value)
        request = ReadRequest("public.seeded", None, ReadMode.INCREMENTAL, "at", cursor, columns=("id",))
        async for batch in origin.read(request):
            read += batch.rows.column("id").to_pylist()
            cursor = batch.cursor or cursor
    await connection.close()
    await origin.close()
    assert read == [1, 2, 3, 4, 5, 6]


async def test_rows_without_a_cursor_value_are_not_passed_over_in_silence(
    empty_database_url: str, context: Context
) -> None:
    await execute(empty_database_url, "CREATE TABLE seeded (at int)", "INSERT INTO seeded VALUES (1), (NULL)")
    request = ReadRequest("public.seeded", mode=ReadMode.INCREMENTAL, cursor_field="at")
    error = await failure(anext(source(empty_database_url, context).read(request)))
    assert error.code == "cursor-null"


@pytest.mark.parametrize(
    ("type_", "given", "values"),
    [
        ("timestamp(0)", pa.timestamp("us"), (1_000_000, 1_500_000)),
        ("timestamptz(3)[]", pa.list_(pa.timestamp("us", "UTC")), ([1_000, None], [1_000, 1])),
        ("time(2)", pa.time64("us"), (10_000, 1_000)),
        ("varchar(2)", pa.string(), ("ab", "ab ")),
        ("numeric(5,1)", pa.decimal128(10, 2), (Decimal("1.50"), Decimal("1.55"))),
    ],
)
async def test_what_the_server_would_round_or_cut_is_refused_by_column(
    empty_database_url: str, context: Context, type_: str, given: pa.DataType, values: tuple[Any, Any]
) -> None:
    await execute(empty_database_url, f"CREATE TABLE held (odd {type_})")
    held, request = destination(empty_database_url, context), load()
    for value, refused in zip(values, (False, True), strict=True):
        rows = pa.record_batch({"odd": pa.array([value, None], given)})
        await held.prepare(request, rows.schema)
        await held.begin(request)
        if refused:
            error = await failure(held.write(rows))
            assert (error.code, "odd" in error.detail) == ("value-does-not-fit", True)
        else:
            await held.write(rows)
            await held.rollback()
    await held.close()


@pytest.mark.parametrize(("type_", "value"), [("timestamptz", "infinity"), ("real", "NaN"), ("numeric", "NaN")])
async def test_a_cursor_nothing_can_lie_beyond_is_refused(
    empty_database_url: str, context: Context, type_: str, value: str
) -> None:
    await execute(empty_database_url, f"CREATE TABLE seeded (at {type_})", f"INSERT INTO seeded VALUES ('{value}')")
    request = ReadRequest("public.seeded", mode=ReadMode.INCREMENTAL, cursor_field="at")
    origin = source(empty_database_url, context)
    error = await failure(origin.copy_binary(request))
    await origin.close()
    assert (error.code, value.lower() in error.detail.lower()) == ("cursor-field-unordered", True)


async def test_tables_that_come_first_into_a_schema_at_the_same_moment_all_come_to_be(
    empty_database_url: str, context: Context
) -> None:
    """Each has seen that the schema is not there, and waits for the one that makes it."""
    db = await asyncpg.connect(empty_database_url)
    await db.execute("SELECT pg_advisory_lock(hashtextextended('dataaggregator schema fresh', 0))")
    loads = [(destination(empty_database_url, context), load(f"fresh.t{number}")) for number in range(3)]
    making = [asyncio.create_task(held.prepare(request, ROWS.schema)) for held, request in loads]
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with asyncio.timeout(20):
        while await db.fetchval(waiting) < len(loads):  # noqa: ASYNC110 - it happens in the database
            await asyncio.sleep(0.02)
    await db.close()
    assert [[one.kind for one in made.changes] for made in await asyncio.gather(*making)] == [["created"]] * 3
    for held, _ in loads:
        await held.close()
