"""Parquet and Arrow files: the schema is the first file's, and every other file has to have the same."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch
from dataaggregator.dataplane.rowgroups import rows_at_once
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import Format
from dataaggregator_connectors.files.opening import arrow_file
from dataaggregator_connectors.files.tree import File

MAGIC = b"ARROW1"


class Table(Protocol):
    """One file of columns, open."""

    schema: pa.Schema

    def batches(self, most_rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...


class ParquetTable:
    def __init__(self, source: Any) -> None:
        self._file = pq.ParquetFile(source)
        self.schema = self._file.schema_arrow

    def batches(self, most_rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return self._file.iter_batches(rows_at_once(self._file, most_rows, columns), columns=list(columns))


class ArrowTable:
    """The format with a footer or the one that is streamed; every batch is looked through before it is believed."""

    def __init__(self, source: BinaryIO) -> None:
        begins = source.read(len(MAGIC))
        source.seek(0)
        raw = arrow_file(source)
        self._file = ipc.open_file(raw) if begins == MAGIC else None
        self._stream = ipc.open_stream(raw) if self._file is None else None
        self.schema = (self._file or self._stream).schema  # type: ignore[union-attr]  # one of them is open

    def batches(self, most_rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in self._whole():
            batch.validate(full=True)
            chosen = batch.select(list(columns))
            yield from (chosen.slice(start, most_rows) for start in range(0, chosen.num_rows, most_rows))

    def _whole(self) -> Iterator[pa.RecordBatch]:
        if self._file is not None:
            return (self._file.get_batch(number) for number in range(self._file.num_record_batches))
        return iter(self._stream or ())


@contextmanager
def table(file: File, form: Format) -> Iterator[Table]:
    """The file open; Invalid "file-malformed" wherever it cannot be read."""
    try:
        with file.opening() as raw:
            yield ParquetTable(str(file.path) if file.path else raw) if form == "parquet" else ArrowTable(raw)
    except (pa.ArrowException, OSError) as error:
        raise Invalid("file-malformed", f"{file.name}: {error}") from error


def table_schema(file: File, form: Format, given: Mapping[str, str]) -> tuple[pa.Schema, pa.Schema]:
    """The file's own schema, and the one it is read with."""
    with table(file, form) as found:
        own = found.schema.remove_metadata()
    wished = parse_schema(given)
    if unknown := [name for name in wished if name not in own.names]:
        raise Invalid("column-missing", f"`schema` names {', '.join(unknown)}, which {file.name} does not have.")
    return own, pa.schema([field.with_type(wished.get(field.name) or _plain(field.type)) for field in own])


def rows_in(files: Sequence[File]) -> int:
    total = 0
    for file in files:
        with file.opening() as raw:
            total += pq.read_metadata(raw).num_rows
    return total


def table_batches(file: File, form: Format, schema: pa.Schema, own: pa.Schema, most_rows: int) -> Iterator[Batch]:
    """A file's rows; a file whose columns differ from the first one's is refused, never read in part."""
    with table(file, form) as found:
        if not found.schema.remove_metadata().equals(own):
            raise Invalid("file-malformed", f"{file.name}: its columns differ from those of the first file.")
        row = 0
        for batch in found.batches(most_rows, schema.names):
            try:
                rows = batch.select(schema.names).cast(schema)
            except pa.ArrowInvalid as error:
                position = f"{file.name}, rows {row + 1} to {row + batch.num_rows}"
                told = ", ".join(_unfit(batch.select(schema.names), schema))
                raise Invalid(
                    "value-not-representable", f"{position}: {told}; give it another type by `schema`."
                ) from error
            row += batch.num_rows
            yield Batch(rows, batch.num_rows)


def _unfit(rows: pa.RecordBatch, schema: pa.Schema) -> Iterator[str]:
    for column, field in zip(rows.columns, schema, strict=True):
        try:
            column.cast(field.type)
        except pa.ArrowInvalid:
            yield f"{field.name} is {column.type}, and not all of its values fit {field.type}"


def _plain(type_: pa.DataType) -> pa.DataType:
    """A column of codes is read as the values they stand for."""
    return type_.value_type if isinstance(type_, pa.DictionaryType) else type_
