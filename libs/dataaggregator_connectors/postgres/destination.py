"""Loading into PostgreSQL: rows, ledger row and cursors in one transaction behind a fence."""

import asyncio
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import asyncpg
import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import (
    Begun,
    LoadRequest,
    Prepared,
    Receipt,
    Recount,
    ReplaceStrategy,
    WriteKind,
)
from dataaggregator.connector.source import BinaryCopy
from dataaggregator.dataplane.batch import BATCH_BYTES, Cursor, parts
from dataaggregator.errors import Transient
from dataaggregator_connectors.postgres.commit import Backend, settle
from dataaggregator_connectors.postgres.config import PostgresConfig, target
from dataaggregator_connectors.postgres.connection import (
    LOST,
    Connection,
    translated,
)
from dataaggregator_connectors.postgres.copying import CopyIn
from dataaggregator_connectors.postgres.encode import Encoder, encoder_for
from dataaggregator_connectors.postgres.ledger import (
    Counts,
    create_ledger,
    find_receipt,
    raise_fence,
    receipt_of,
    take_fence,
    write_ledger,
)
from dataaggregator_connectors.postgres.merge import STAGE_TABLE, create_stage, merge_stage, staged_columns, take_turn
from dataaggregator_connectors.postgres.recount import recount
from dataaggregator_connectors.postgres.sessions import ERRANDS, Sessions
from dataaggregator_connectors.postgres.sql import Table, parse_table
from dataaggregator_connectors.postgres.swap import build_beside, check_swap, take_place
from dataaggregator_connectors.postgres.tables import fitting_columns, foresee_table, prepare_table, written_fields
from dataaggregator_connectors.postgres.types import NOT_BINARY, Column, Look, Looks, same
from dataaggregator_connectors.postgres.unfit import unfit_rows

FENCE_WAIT_SECONDS = 60.0
COMMIT_SECONDS = 120.0


@dataclass
class Loading:
    """A load under way: its connection, the server process behind it, and what has been written so far."""

    request: LoadRequest
    connection: Connection
    backend: Backend
    cursors: Mapping[str, Cursor]
    digest: "hashlib._Hash"
    note: str = ""
    deleted: int = 0
    written: int = 0
    columns: Sequence[Column] = ()
    there: Look | None = None
    """The table as the rows are made for it; see `_see_it_unaltered`."""
    copy: CopyIn | None = None
    encoder: Encoder | None = None
    beside: Table | None = None
    """What takes the table's place at the commit."""


class PostgresDestination:
    """One load at a time; whatever is not committed is undone by the server."""

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._sessions = Sessions(config, context)
        self._where = f"PostgreSQL at {target(config).host}"
        self._has_ledger = False
        self._looks = Looks()
        self._loaded: list[Connection] = []
        """Given back only at the next load or the end: what was loaded over it is read back over another."""
        self._loading: Loading | None = None
        self._foreseen: Sequence[Column] | None = None
        """The columns as a load would find them, when somebody asked for that instead of loading."""

    async def prepare(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        async with self._sessions.errand() as connection:
            look = await self._looks.at(connection, parse_table(load.stream).sql)
            if not look.ledger:
                await create_ledger(connection)
            self._has_ledger = True
            prepared = await prepare_table(connection, load, schema, self._looks)
            if load.replace_strategy is ReplaceStrategy.SWAP:
                await check_swap(connection, parse_table(load.stream))
        return prepared

    async def foresee(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        async with self._sessions.errand() as connection, connection.transaction(readonly=True):
            look = await self._looks.at(connection, parse_table(load.stream).sql)
            prepared, self._foreseen = await foresee_table(connection, load, schema, look)
            if load.replace_strategy is ReplaceStrategy.SWAP:
                await check_swap(connection, parse_table(load.stream))
        return prepared

    async def begin(self, load: LoadRequest) -> Begun:
        await self.rollback()
        await self._give_back_loaded()
        # What waits for the fence gives up after two seconds, to look who holds it.
        connection = await self._sessions.open(loader_name(load), lock_timeout="2s")
        try:
            with translated(self._where):
                if not self._has_ledger:
                    await create_ledger(connection)
                begun = await self._fence(connection, load)
                backend = await Backend.of(connection)
        except BaseException:
            self._sessions.hang_up(connection)
            raise
        self._loading = Loading(load, connection, backend, begun.cursors, hashlib.sha256())
        return begun

    async def _fence(self, connection: Connection, load: LoadRequest) -> Begun:
        """Raise the fence, then hold it in the load's transaction; loads of older epochs that hold it are ended."""
        deadline = asyncio.get_running_loop().time() + FENCE_WAIT_SECONDS
        while True:
            try:
                await raise_fence(connection, load)
                await connection.execute("BEGIN")
                return await take_fence(connection, load)
            except asyncpg.LockNotAvailableError as error:
                await connection.execute("ROLLBACK")
                await end_older_loads(connection, load)
                if asyncio.get_running_loop().time() > deadline:
                    raise Transient(
                        "destination-locked", f"Another load into {load.stream} has held it for {FENCE_WAIT_SECONDS} s."
                    ) from error

    async def write(self, rows: pa.RecordBatch) -> None:
        loading = self._open()
        with translated(self._where):
            if loading.encoder is None:
                there = await self._there(loading)
                load = loading.request
                loading.columns = fitting_columns(there.columns, load, written_fields(load, rows.schema))
                loading.encoder = encoder_for(rows.schema, staged_columns(load, loading.columns))
                loading.copy = await self._copy_in(loading, loading.encoder.format)
                await self._send(loading, loading.encoder.head)
            for part in parts(rows, BATCH_BYTES):
                await self._send(loading, partial(loading.encoder.batch, part))
        loading.written += rows.num_rows

    async def unfit(self, rows: pa.RecordBatch) -> Mapping[int, str]:
        loading = self._open()
        load, there = loading.request, await self._there(loading)
        columns = staged_columns(load, fitting_columns(there.columns, load, written_fields(load, rows.schema)))
        return await asyncio.to_thread(unfit_rows, rows, columns)

    async def _send(self, loading: Loading, encode: Callable[[], bytes]) -> None:
        data = await asyncio.to_thread(_digested, encode, loading.digest)
        if data and loading.copy is not None:
            await loading.copy.send(data)

    async def _copy_in(self, loading: Loading, form: Literal["binary", "text"]) -> CopyIn:
        """Make room as the way of writing asks, and open one COPY for the whole load."""
        load, table = loading.request, parse_table(loading.request.stream)
        into = table
        if load.write is WriteKind.REPLACE:
            into = await self._make_room(loading)
        elif load.write is WriteKind.MERGE:
            await create_stage(loading.connection, load, table, loading.columns)
            into = STAGE_TABLE
        names = [column.name for column in staged_columns(load, loading.columns)]
        return CopyIn(loading.connection, into, names, form)

    async def _make_room(self, loading: Loading) -> Table:
        """Where the rows of a replace go."""
        load, table = loading.request, parse_table(loading.request.stream)
        if load.replace_strategy is ReplaceStrategy.SWAP:
            loading.beside = await build_beside(loading.connection, load, table)
            return loading.beside
        tag = await loading.connection.execute(f"DELETE FROM {table.sql}")
        loading.deleted = int(tag.removeprefix("DELETE "))
        return table

    async def accepts_binary(self, load: LoadRequest, copy: BinaryCopy) -> bool:
        """Whether both tables declare the very same built-in types for the columns of the copy."""
        if copy.dialect != "postgres":
            return False
        schema = pa.schema([pa.field(name, pa.null()) for name in copy.columns])
        if self._foreseen is not None:
            there = self._foreseen
        elif self._loading is None:
            async with self._sessions.errand() as connection:
                there = (await self._looks.at(connection, parse_table(load.stream).sql)).columns
        else:
            there = (await self._there(self._loading)).columns
        found = {column.name: column for column in there}
        return all(
            (column := found.get(name)) is not None
            and column.builtin
            and not column.generated
            and column.portable
            and column.declared == type_
            and NOT_BINARY.isdisjoint((column.typname, column.element))
            for name, type_ in zip(schema.names, copy.types, strict=True)
        )

    async def _there(self, loading: Loading) -> Look:
        if loading.there is None:
            with translated(self._where):
                loading.there = await self._looks.at(loading.connection, parse_table(loading.request.stream).sql)
        return loading.there

    async def write_binary(self, copy: BinaryCopy) -> int:
        loading = self._open()
        with translated(self._where):
            found = {column.name: column for column in (await self._there(loading)).columns}
            loading.columns = [found[name] for name in copy.columns]
            loading.copy = await self._copy_in(loading, "binary")
            async for chunk in copy.chunks:
                loading.digest.update(chunk)
                await loading.copy.send(chunk)
            loading.written = await loading.copy.end()
        return loading.written

    def note(self, note: str) -> None:
        self._open().note = note

    async def commit(self, cursors: Mapping[str, Cursor]) -> Receipt:
        loading = self._open()
        load, connection = loading.request, loading.connection
        with translated(self._where):
            counts = await self._finish(loading)
            checksum = f"sha256:{loading.digest.hexdigest()}"
            moved = (loading.cursors, cursors)
            receipt, marks = await write_ledger(connection, load, counts, checksum, moved, note=loading.note)
        self._see_it_unaltered(loading, marks)
        try:
            await asyncio.wait_for(connection.execute("COMMIT"), COMMIT_SECONDS)
        except LOST as error:
            self._sessions.hang_up(connection)
            self._loading = None
            return await settle(self._config, self._context, load, loading.backend, error)
        except asyncpg.PostgresError as error:
            with translated(self._where):
                raise error
        self._loading, self._loaded = None, [*self._loaded, connection]
        return receipt

    def _see_it_unaltered(self, loading: Loading, marks: Sequence[str]) -> None:
        """The rows' bytes are made for the columns of the look. Since they began to come in the table is locked against
        being altered: what it is now it was for all of them."""
        if loading.there is not None and not same(loading.columns, loading.there.marks, marks):
            raise Transient(
                "destination-altered", f"The columns of {loading.request.stream} were altered while it was loaded."
            )

    async def _finish(self, loading: Loading) -> Counts:
        """End the COPY and see that the server took every row; merge the stage, or swap the tables."""
        load, table, taken = loading.request, parse_table(loading.request.stream), 0
        if loading.encoder is not None:
            await self._send(loading, loading.encoder.tail)
        if loading.copy is not None:
            taken = await loading.copy.end()
        elif load.write is WriteKind.REPLACE:
            await self._make_room(loading)  # also one without rows leaves nothing of what was there
        if taken != loading.written:
            raise Transient(
                "destination-count", f"{loading.written} rows were sent and {taken} taken by {load.stream}."
            )
        if load.write is WriteKind.MERGE and loading.copy is not None:
            await take_turn(loading.connection, table)
            return await merge_stage(loading.connection, load, table, loading.columns, taken)
        if loading.beside is not None:
            loading.deleted = await take_place(loading.connection, table, loading.beside)
        return Counts(rows=taken, inserted=taken, deleted=loading.deleted)

    async def rollback(self) -> None:
        loading, self._loading = self._loading, None
        if loading is None:
            return
        if loading.copy is not None:
            self._sessions.hang_up(loading.connection)
            await loading.copy.abandon()
            return
        try:
            await loading.connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, *LOST):
            self._sessions.hang_up(loading.connection)
            return
        await self._sessions.give_back(loading.connection)

    async def read_back(self, load: LoadRequest) -> Receipt | None:
        """Over the session of the errands, never one that loaded."""
        async with self._sessions.errand() as connection:
            return await (receipt_of if self._has_ledger else find_receipt)(connection, load)

    async def recount(self, load: LoadRequest, seconds: float) -> Recount | None:
        connection = await self._sessions.open(ERRANDS, statement_timeout=f"{seconds:g}s")
        try:
            with translated(self._where):
                return await recount(connection, load)
        finally:
            await self._sessions.give_back(connection)

    async def close(self) -> None:
        await self.rollback()
        await self._give_back_loaded()
        await self._sessions.close()

    async def _give_back_loaded(self) -> None:
        while self._loaded:
            await self._sessions.give_back(self._loaded.pop())

    def _open(self) -> Loading:
        if self._loading is None:
            raise RuntimeError("begin comes before write and commit")
        return self._loading


def loader_name(load: LoadRequest) -> str:
    """How a load's session names itself, so that a newer epoch can find and end it."""
    return f"da:{load.fenced_by.hex}:{zlib.crc32(load.stream.encode()):08x}:{load.epoch}"


async def end_older_loads(connection: Connection, load: LoadRequest) -> None:
    """End sessions that load the same stream under an older epoch: they could not commit any more anyway."""
    prefix = loader_name(load).rpartition(":")[0] + ":"
    await connection.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND usename = current_user AND datname = current_database()
          AND starts_with(application_name, $1) AND substr(application_name, length($1) + 1) ~ '^[0-9]{1,18}$'
          AND substr(application_name, length($1) + 1)::int8 < $2""",
        prefix, load.epoch,
    )  # fmt: skip


def _digested(encode: Callable[[], bytes], digest: "hashlib._Hash") -> bytes:
    data = encode()
    digest.update(data)
    return data
