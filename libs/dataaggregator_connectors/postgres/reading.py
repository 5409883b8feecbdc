"""One SELECT read through ADBC in a thread of its own, as Arrow batches whose values are checked column by column."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi

from dataaggregator.dataplane.batch import BATCH_BYTES
from dataaggregator.errors import Invalid, Permanent, Transient
from dataaggregator_connectors.postgres.types import Column

Array: TypeAlias = "pa.Array[Any]"
HINT = {"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}
# The driver adds the distance between the epochs to `infinity` and overflows: these lie before all real values.
FIRST_DAY = -2_451_545
FIRST_MICROSECOND = -211_813_488_000_000_000 + 946_684_800_000_000 - 1
DAY_MICROSECONDS = 86_400_000_000


class ArrowReader:
    """Reads one query; `next` answers a batch of the wished schema or None at the end. Not shared between tasks."""

    def __init__(self, words: str, sql: str, settings: Mapping[str, str], columns: Sequence[Column]) -> None:
        self._words, self._sql, self._settings, self._columns = words, sql, settings, columns
        self._schema = pa.schema([column.field for column in columns])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="postgres-read")
        self._connection: Any = None
        self._cursor: Any = None
        self._batches: Any = None
        self._closed = False

    async def open(self) -> None:
        """One snapshot, for all that is asked from now on."""
        await self._call(self._open)

    async def counts(self, sql: str) -> tuple[int, ...]:
        """The one row of a statement of ours."""
        return tuple(await self._call(lambda: self._counts(sql)))

    async def begin(self) -> None:
        await self._call(self._begin)

    async def batches(self, most_rows: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """All rows. Nothing is read ahead: rows wait in the queue of a run, and as many would wait here again."""
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[pa.RecordBatch | None] | None = None
        try:
            while True:
                reading = loop.run_in_executor(self._thread, self._next)
                batch = await self._answer(reading)
                if batch is None:
                    return
                for start in range(0, batch.num_rows, most_rows):
                    yield batch.slice(start, most_rows)
        finally:
            if reading is not None and not reading.done():
                self._cursor.adbc_cancel()
                await asyncio.wait([reading])
            if reading is not None and not reading.cancelled():
                reading.exception()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], Any]) -> Any:
        return await self._answer(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _answer(self, future: "asyncio.Future[Any]") -> Any:
        try:
            return await asyncio.shield(future)
        except dbapi.Error as error:
            raise self._not_plain(error) or _meaning(error) from error
        except (OSError, pa.ArrowException) as error:
            raise self._not_plain(error) or _broken_off(error) from error

    def _not_plain(self, error: Exception) -> Invalid | None:
        """What the server said where a column's expression was made to fail."""
        for column in self._columns:
            if column.not_plain in str(error):
                return Invalid(
                    "value-not-representable",
                    f"Column {column.name} ({column.base}) holds an array of several dimensions or with a lower bound "
                    "other than 1. Leave these rows out with a query, or read the column as text with `schema`.",
                )
        return None

    def _open(self) -> None:
        self._connection = dbapi.connect(self._words)
        self._cursor = self._connection.cursor()
        self._cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for name, value in self._settings.items():
            self._cursor.execute("SELECT set_config($1, $2, true)", (name, value))
            self._cursor.fetchall()

    def _counts(self, sql: str) -> Sequence[int]:
        self._cursor.execute(sql)
        (row,) = self._cursor.fetchall()
        return tuple(map(int, row))

    def _begin(self) -> None:
        self._cursor.adbc_statement.set_options(**HINT)
        self._cursor.execute(self._sql)
        self._batches = self._cursor.fetch_record_batch()

    def _next(self) -> pa.RecordBatch | None:
        while (raw := next(self._batches, None)) is not None:
            if raw.num_rows:
                arrays = [_exact(raw.column(i), column) for i, column in enumerate(self._columns)]
                return pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return None

    def _close(self) -> None:
        for part in (self._batches, self._cursor, self._connection):
            if part is not None:
                part.close()
        self._batches = self._cursor = self._connection = None


def _meaning(error: dbapi.Error) -> Exception:
    """The sqlstate's class decides: data and syntax are for a person to mend, a lost connection is tried again."""
    state = (error.sqlstate or "").strip("\0")
    text = str(error).strip()
    if state[:2] in ("08", "57", "53", "40") or not state:
        return Transient("connector-unreachable", f"PostgreSQL: {text}")
    if state[:2] in ("22", "42", "0A", "25", "28", "3D", "3F"):
        return Invalid("connector-refused", f"PostgreSQL: {text}")
    return Permanent("connector-refused", f"PostgreSQL: {text}")


def _broken_off(error: Exception) -> Exception:
    """An error within the stream has no sqlstate any more: what the server says about a value starts with ERROR."""
    text = str(error).strip()
    if "ERROR:" in text and "terminating connection" not in text:
        return Invalid("connector-refused", f"PostgreSQL: {text}")
    return Transient("connector-unreachable", f"PostgreSQL: {text}")


def _exact(array: Array, column: Column) -> Array:
    """The driver's array as the column's type, refused with the column named where a value cannot cross unchanged."""
    plain = array.storage if isinstance(array, pa.ExtensionArray) else array
    wanted = column.arrow
    if isinstance(wanted, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(wanted, plain.cast(wanted.storage_type))
    if isinstance(plain, pa.ListArray) and isinstance(wanted, pa.ListType):
        values = _exact_values(plain.values, wanted.value_type, column)
        mask = plain.is_null() if plain.null_count else None
        return pa.ListArray.from_arrays(plain.offsets, values, type=wanted, mask=mask)
    return _exact_values(plain, wanted, column)


def _exact_values(array: Array, wanted: pa.DataType, column: Column) -> Array:
    plain = array.storage if isinstance(array, pa.ExtensionArray) else array
    if pa.types.is_date32(wanted):
        _within(plain.view(pa.int32()), column, FIRST_DAY, None)
    elif pa.types.is_timestamp(wanted):
        _within(plain.view(pa.int64()), column, FIRST_MICROSECOND, None)
    elif pa.types.is_time64(wanted):
        _within(plain.view(pa.int64()), column, 0, DAY_MICROSECONDS - 1)
    try:
        return plain if plain.type == wanted else pc.cast(plain, wanted)
    except pa.ArrowInvalid as error:
        raise Invalid(
            "value-not-representable", f"Column {column.name} ({column.base}): {error}. Read it as text with `schema`."
        ) from error


def _within(array: Array, column: Column, least: int, most: int | None) -> None:
    found: Any = pc.min_max(array).as_py()
    low, high = found["min"], found["max"]
    if low is None or (low >= least and (most is None or high <= most)):
        return
    raise Invalid(
        "value-not-representable",
        f"Column {column.name} ({column.base}) holds infinity or a time outside what Arrow can say. "
        "Leave these rows out with a query, or read the column as text with `schema`.",
    )
