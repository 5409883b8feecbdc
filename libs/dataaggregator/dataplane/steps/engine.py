"""The one door to DuckDB: locked by its own means as well, typed Arrow in and out, errors with line and column."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from dataaggregator.dataplane.allocators import give_back
from dataaggregator.dataplane.batch import no_rows
from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.told import Told
from dataaggregator.errors import FieldError, Invalid, Permanent

BATCH_ROWS = 65_536
# What the engine may hold before it spills, however many rows come and however much a sandbox may use.
FIRST_BYTES = 64 << 20
# Its share of the sandbox's memory, up to which a statement gets more that cannot do with less: not all can be spilled.
# The rest is for what it does not count itself, and for batches on the wire.
ENGINE_SHARE = 0.25
STREAM_BYTES = 2 << 20
"""Of an answer so much is ready before somebody asks for it."""
ROWS = "rows_at_hand"
DEFINITION = "definition-invalid"
"""The code of what is wrong whatever the rows are."""
_T = TypeVar("_T")


def quote(name: str) -> str:
    """A name as SQL takes it, whatever its characters (the one quoting function of this dialect)."""
    return '"' + name.replace('"', '""') + '"'


class Engine:
    """One DuckDB connection, in memory, spilling to one folder, with nothing of the outside in reach."""

    def __init__(self, memory_bytes: int, spill: Path, spill_bytes: int) -> None:
        self._connection = duckdb.connect(":memory:", config={"threads": 2})
        self._share_bytes = int(memory_bytes * ENGINE_SHARE)
        self.limit_bytes = min(FIRST_BYTES, self._share_bytes)
        settings = {
            "memory_limit": f"{self.limit_bytes}B",
            "temp_directory": str(spill),
            "max_temp_directory_size": f"{spill_bytes}B",
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,
            "arrow_lossless_conversion": True,
            "errors_as_json": True,
            "TimeZone": "UTC",
            "enable_external_access": False,
            # Neither binds: that is the kernel's part.
            "allowed_configs": ["memory_limit", "max_streaming_buffer_size"],
            "lock_configuration": True,
        }
        for name, value in settings.items():
            written = f"'{value.replace(chr(39), chr(39) * 2)}'" if isinstance(value, str) else value
            self._connection.execute(f"SET GLOBAL {name} = {written}")
        self._tables = 0
        self._repeated: dict[str, _Repeated] = {}
        self._spill = spill
        self._files = 0
        self.spill_bytes = spill_bytes
        self.rows_shown = False
        """Whether who asked may see rows, so that errors may speak of their values."""

    def _with_room(self, work: Callable[[], _T]) -> _T:
        """Do it again with more memory as long as it cannot be done with less."""
        while True:
            try:
                return work()
            except duckdb.OutOfMemoryException:
                if not self._widened():
                    raise

    def _widened(self) -> bool:
        """Give the engine twice as much; False when it has its whole share already."""
        if self.limit_bytes >= self._share_bytes:
            return False
        self.limit_bytes = min(2 * self.limit_bytes, self._share_bytes)
        self._limit()
        return True

    def _limit(self) -> None:
        self._connection.execute(f"SET GLOBAL memory_limit = '{self.limit_bytes}B'")

    def give_back(self) -> None:
        """Return what lies free to the system; the engine's own allocator does so when a limit is set."""
        self._limit()
        give_back()  # setting a limit does that too, but not within a tenth of a second of the last time

    def spill_path(self, ending: str) -> Path:
        """A name in the spill folder for a file that is not the engine's own."""
        self._files += 1
        return self._spill / f"{self._files}-{ending}"

    def spilled_bytes(self) -> int:
        """What lies in the spill folder, whoever wrote it."""
        with os.scandir(self._spill) as entries:
            return sum(entry.stat().st_size for entry in entries)

    def bind(self, sql: str, values: Mapping[str, Any], place: "Place") -> pa.Schema:
        """The schema a statement gives; raises Invalid at the user's line and column when it does not bind."""
        opening = "SELECT * FROM ("
        statement = f"{opening}{sql}\n) LIMIT 0"
        with place.errors(DEFINITION, shift=len(opening)):
            self._connection.execute(statement, dict(values)).fetchall()
            answer = self._connection.sql(statement, params=dict(values)).to_arrow_table()
        return pa.schema([field.with_type(types.settled(field.type)) for field in answer.schema])

    def names(self, sql: str, values: Mapping[str, Any], tables: Mapping[str, str], place: "Place") -> list[str]:
        """The names a query gives its columns, as it writes them (as a subquery, doubled ones would be changed)."""
        for name, table in tables.items():
            self._connection.execute(f"CREATE TEMP VIEW {quote(name)} AS FROM {table}")
        try:
            with place.errors(DEFINITION, shift=len("DESCRIBE ")):
                return [str(row[0]) for row in self._connection.execute(f"DESCRIBE {sql}", dict(values)).fetchall()]
        finally:
            for name in tables:
                self._connection.execute(f"DROP VIEW {quote(name)}")

    def constant(self, sql: str, values: Mapping[str, Any], place: "Place") -> None:
        """Try a value of the definition; raises Invalid when the engine does not take it."""
        with place.errors(DEFINITION):
            self._connection.execute(f"SELECT {sql}", dict(values)).fetchall()

    @contextmanager
    def over(self, schema: pa.Schema) -> Iterator[None]:
        """Statements inside are bound over ROWS of this schema (of the fields the engine takes)."""
        self._connection.register(ROWS, _seen(no_rows(schema)))
        try:
            yield
        finally:
            self._connection.unregister(ROWS)

    def tree(self, sql: str) -> Mapping[str, Any]:
        """How the engine itself reads a statement."""
        answer = self._connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
        return dict(json.loads(answer[0][0]))

    def text(self, tree: Mapping[str, Any]) -> str:
        """A statement again, of what `tree` gave."""
        answer = self._connection.execute("SELECT json_deserialize_sql($tree::JSON)", {"tree": json.dumps(tree)})
        return str(answer.fetchall()[0][0])

    def evaluate(self, rows: pa.RecordBatch, sql: str, values: Mapping[str, Any], place: "Place") -> pa.Table:
        """Run a statement over `rows` (named ROWS there, fields the engine takes only), in their order."""
        seen = _seen(rows)
        name = self._repeated[sql].name if sql in self._repeated else f"{ROWS}_{len(self._repeated)}"
        with place.errors("expression-failed", shift=len(_reading(name))):
            return self._with_room(partial(self._prepared(name, sql, values, seen.schema).over, seen))

    def _prepared(self, name: str, sql: str, values: Mapping[str, Any], schema: pa.Schema) -> "_Repeated":
        """To register rows and to read a statement costs as much as to work on some thousand rows: done once."""
        found = self._repeated.get(sql)
        if found is not None and found.fits(schema, values):
            return found
        at_hand = _AtHand(schema)
        self._connection.register(name, at_hand)
        relation = self._connection.sql(f"{_reading(name)}{sql}", params=dict(values))
        self._repeated[sql] = _Repeated(name, at_hand, dict(values), relation)
        return self._repeated[sql]

    def types_of(self, schema: pa.Schema) -> Mapping[str, str]:
        """The engine's names for the types of the fields it takes."""
        with self.over(schema):
            described = self._connection.execute(f"DESCRIBE SELECT * FROM {ROWS}").fetchall()
        return dict(zip(types.takeable(schema), (str(row[1]) for row in described), strict=False))

    def table(self, schema: pa.Schema) -> str:
        """A new empty table for rows of this schema; its name."""
        self._tables += 1
        name = f"collected_{self._tables}"
        self._connection.register(ROWS, no_rows(schema))
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {ROWS}")
        self._connection.unregister(ROWS)
        return name

    def append(self, table: str, rows: pa.RecordBatch, place: "Place") -> None:
        """Keep rows in a table; it spills when it outgrows its share of the memory."""
        self._connection.register(ROWS, rows)
        try:
            with place.errors("expression-failed"):
                self._with_room(lambda: self._connection.execute(f"INSERT INTO {table} SELECT * FROM {ROWS}"))
        finally:
            self._connection.unregister(ROWS)

    def empty(self, table: str) -> None:
        """Give the memory and disk of a table's rows back; it stays."""
        self._connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {table} LIMIT 0")

    def drop(self, table: str) -> None:
        """Give a table's memory and disk back."""
        self._connection.execute(f"DROP TABLE {table}")

    def row(self, sql: str, place: "Place") -> tuple[Any, ...]:
        """The one row of a statement of ours."""
        with place.errors("expression-failed"):
            found = self._with_room(lambda: self._connection.execute(sql).fetchall())
        return tuple(found[0])

    def stream(
        self, sql: str, values: Mapping[str, Any], place: "Place", batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a statement, batch by batch."""
        with place.errors("expression-failed"):
            given = False
            while True:
                try:
                    for batch in self._batches(sql, values, batch_rows):
                        given = True
                        yield batch
                    return
                except duckdb.OutOfMemoryException:
                    if given or not self._widened():
                        raise

    def _batches(self, sql: str, values: Mapping[str, Any], batch_rows: int) -> Iterator[pa.RecordBatch]:
        cursor = self._connection.cursor()  # the connection itself stays free for the steps behind
        cursor.execute(f"SET max_streaming_buffer_size = '{STREAM_BYTES}B'")
        try:
            yield from cursor.sql(sql, params=dict(values)).to_arrow_reader(batch_rows)
        except OSError as error:  # how Arrow hands on what the engine says of a later batch
            kind = duckdb.OutOfMemoryException if "Out of Memory" in str(error) else duckdb.Error
            raise kind(str(error)) from error


class _AtHand:
    """A stream of one batch, another one each time the engine reads it."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = no_rows(schema)

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        stream: Any = pa.RecordBatchReader.from_batches(self.schema, [self.rows])
        return stream.__arrow_c_stream__(requested_schema)


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A statement that runs over one batch after the other."""

    name: str
    at_hand: _AtHand
    values: Mapping[str, Any]
    relation: duckdb.DuckDBPyRelation

    def fits(self, schema: pa.Schema, values: Mapping[str, Any]) -> bool:
        return self.at_hand.schema.equals(schema) and self.values == values

    def over(self, rows: pa.RecordBatch) -> pa.Table:
        self.at_hand.rows = rows
        try:
            answer: pa.Table = self.relation.to_arrow_table()
            return answer
        finally:
            self.at_hand.rows = no_rows(rows.schema)


def _reading(name: str) -> str:
    """What stands before a statement over ROWS that are registered by another name."""
    return f"WITH {ROWS} AS (FROM {name}) "


def _seen(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The fields that the engine takes; expressions without fields still have one value a row."""
    seen = rows.select(types.takeable(rows.schema))
    if seen.num_columns:
        return seen
    return pa.RecordBatch.from_arrays([pa.nulls(rows.num_rows)], names=["no field"])


class Place:
    """Where in a definition a text stands: errors in it are told by stage, line and column.

    `text` is the user's text, `before` what stands before it in the statement that is run. Unless `rows_shown`, what
    fails on a row is told without its values: a run's error is for everybody who may see the run.
    """

    def __init__(self, stage: str, field: str, *, before: str = "", text: str = "", rows_shown: bool = False) -> None:
        self.stage = stage
        self.field = field
        self.rows_shown = rows_shown
        self._before = len(before.encode())
        self._text = text

    @contextmanager
    def errors(self, code: str, shift: int = 0) -> Iterator[None]:
        """Turn the engine's errors into ours; `shift` bytes stand before the statement."""
        try:
            yield
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            told = str(error)
            if "max_temp_directory_size" in told or "disk" in told.lower():
                raise Permanent("sandbox-disk", f"{self.stage}: the spill folder is full") from error
            raise Permanent("sandbox-memory", f"{self.stage}: needed more memory than a sandbox may use") from error
        except duckdb.Error as error:
            said = Told.of(error)
            position = None if said.position is None else said.position - shift
            of_rows = code != DEFINITION and not self.rows_shown
            raise self.invalid(code, said.without_values() if of_rows else said.message, position) from error

    def invalid(self, code: str, message: str, position: int | None = None) -> Invalid:
        """An error at this place; `position` counts bytes in the statement that was run."""
        where = self._where(position)
        message = f"{where}: {message}" if where else message
        errors = [FieldError(self.field, message, code)]
        return Invalid(code, f"{self.stage}: {message}", errors=errors)

    def _where(self, position: int | None) -> str:
        text = self._text.encode()
        if position is None or not 0 <= position - self._before <= len(text):
            return ""
        read = text[: position - self._before].decode(errors="replace")
        return f"line {read.count(chr(10)) + 1}, column {len(read) - (read.rfind(chr(10)) + 1) + 1}"
