"""PostgreSQL: exact types both ways, incremental reads, exactly-once loads."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import WriteKind
from dataaggregator.connector.source import ReadMode
from dataaggregator.connector.spec import Check, ConnectorType, Naming, WriteMode
from dataaggregator.errors import PlatformError
from dataaggregator_connectors.postgres.config import PostgresConfig, target
from dataaggregator_connectors.postgres.connection import Connection, close, connect
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import STREAMS, PostgresSource
from dataaggregator_connectors.postgres.sql import table_parts, table_within
from dataaggregator_connectors.postgres.typemap import rows


async def check(config: PostgresConfig, context: Context) -> AsyncIterator[Check]:
    """Resolve, connect, log in, TLS, list, write: each step only if the one before it went well."""
    to = target(config)
    for name, step in (("resolve", _resolve), ("connect", _connect)):
        went = await _step(name, lambda step=step: step(config, context))  # type: ignore[misc]  # a default binds each
        yield went
        if not went.ok:
            return
    opened: list[Connection] = []

    async def log_in() -> str:
        opened.append(await connect(config, context))
        return f"Logged in to {to.database} as {to.user}."

    logged_in = await _step("log in", log_in)
    yield logged_in
    if not logged_in.ok:
        return
    try:
        for name, work in (("tls", _tls), ("list", _list), ("write permission", _writes)):
            yield await _step(name, lambda work=work: work(opened[0]))  # type: ignore[misc]  # a default binds each
    finally:
        await close(opened[0])


async def _resolve(config: PostgresConfig, context: Context) -> str:
    to = target(config)
    address = await context.egress.resolve(to.host, to.port)
    return f"{to.host} is {address.ip}."


async def _connect(config: PostgresConfig, context: Context) -> str:
    to = target(config)
    address = await context.egress.resolve(to.host, to.port)
    await context.egress.knock(address, to.connect_timeout)
    return f"Something listens at {address.ip}:{address.port}."


async def _tls(connection: Connection) -> str:
    sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"
    version = await connection.fetchval(sql)
    return f"The connection is encrypted with {version}." if version else "The connection is not encrypted."


async def _list(connection: Connection) -> str:
    return f"{len(await connection.fetch(STREAMS))} streams can be read."


async def _writes(connection: Connection) -> str:
    sql = "SELECT has_database_privilege(current_database(), 'CREATE') AND NOT pg_is_in_recovery()"
    if await connection.fetchval(sql):
        return "This user may create schemas and load."
    return "This user can read only: loading needs CREATE on the database for the ledger's schema."


async def _step(name: str, work: Callable[[], Awaitable[str]]) -> Check:
    started = time.perf_counter()
    try:
        detail, code = await work(), None
    except PlatformError as error:
        detail, code = error.detail, error.code
    return Check(name, code is None, detail, code, round((time.perf_counter() - started) * 1000, 1))


CONNECTOR = ConnectorType(
    name="postgres",
    title="PostgreSQL",
    config=PostgresConfig,
    source=PostgresSource,
    destination=PostgresDestination,
    check=check,
    read_modes=(ReadMode.FULL_REFRESH, ReadMode.INCREMENTAL),
    write_modes=(
        WriteMode(WriteKind.APPEND, "exactly_once"),
        WriteMode(WriteKind.REPLACE, "exactly_once"),
        WriteMode(WriteKind.MERGE, "exactly_once"),
    ),
    docs="Reads tables, views and queries with their exact types; loads in one transaction with its ledger row.",
    naming=Naming(table_parts, table_within),
    side_by_side=True,
    types=tuple(rows()),
    types_remark="From PostgreSQL to PostgreSQL without steps the bytes pass undecoded, and with them every value of "
    "PostgreSQL's own types, those refused below included. A domain is what the type below it is; a new table gets "
    "that type where it is PostgreSQL's own. A computed column is read like any other and never written.",
)
