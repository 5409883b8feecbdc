"""The files of a load under way: one for each partition, made as drafts and finished one by one."""

import datetime
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.connector.documents import column_values, plain_text
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import Compression, CsvOptions, Format
from dataaggregator_connectors.files.names import joined, partition_folder
from dataaggregator_connectors.files.writing import RowWriter, open_writer

MOST_OPEN = 64
MOST_PARTS = 10_000


@dataclass(frozen=True)
class Layout:
    """What the files of a load are like."""

    form: Format
    options: CsvOptions
    compression: Compression | None = None
    partition_by: tuple[str, ...] = ()
    most_bytes: int | None = None
    """A file that has grown beyond is finished, and the next one begun."""


@dataclass(frozen=True)
class Part:
    """A finished draft: the partition's folder it belongs to, its number in the load, what it holds."""

    draft: Path
    partition: str
    number: int
    rows: int
    checksum: str


@dataclass
class _Open:
    """A draft under way."""

    draft: Path
    number: int
    writer: RowWriter
    rows: int = 0


class Parts:
    """Takes rows and answers the drafts that have become whole on the way; `finish` answers the others."""

    def __init__(self, folder: Path, stem: str, layout: Layout) -> None:
        self._folder, self._stem, self._layout = folder, stem, layout
        self._open: dict[str, _Open] = {}
        self._made = 0

    def check(self, schema: pa.Schema) -> None:
        """Invalid for columns that cannot be folders."""
        by = self._layout.partition_by
        if missing := [name for name in by if name not in schema.names]:
            raise Invalid("column-missing", f"`partition_by` names {', '.join(missing)}, which the rows do not have.")
        if len(by) == len(schema.names):
            raise Invalid("partition-invalid", "`partition_by` names every column, which leaves nothing for the files.")
        for name in by:
            if not _can_be_folder(schema.field(name).type):
                raise Invalid(
                    "partition-invalid",
                    f"{name} is {schema.field(name).type}; folders are text, whole numbers, decimals, booleans, dates.",
                )

    def write(self, rows: pa.RecordBatch) -> Iterator[Part]:
        for partition, some in self._split(rows):
            if partition not in self._open:
                if len(self._open) >= MOST_OPEN:
                    yield self._finished(next(iter(self._open)))
                self._begin(partition, some.schema)
            here = self._open[partition]
            here.writer.write(some)
            here.rows += some.num_rows
            self._open[partition] = self._open.pop(partition)  # the one that was not written to for longest comes first
            if self._layout.most_bytes is not None and here.draft.stat().st_size > self._layout.most_bytes:
                yield self._finished(partition)

    def finish(self) -> Iterator[Part]:
        while self._open:
            yield self._finished(next(iter(self._open)))

    def drop(self) -> None:
        """Close what is open; the drafts are taken away."""
        while self._open:
            _, here = self._open.popitem()
            here.writer.close()
            here.draft.unlink(missing_ok=True)

    def _begin(self, partition: str, schema: pa.Schema) -> None:
        if self._made >= MOST_PARTS:
            raise Invalid("partition-invalid", f"This load would become more than {MOST_PARTS} files.")
        draft, layout = self._folder / f"{self._stem}.{self._made}.draft", self._layout
        try:
            writer = open_writer(draft, layout.form, schema, layout.options, layout.compression)
        except Invalid:
            draft.unlink(missing_ok=True)
            raise
        self._open[partition] = _Open(draft, self._made, writer)
        self._made += 1

    def _finished(self, partition: str) -> Part:
        here = self._open.pop(partition)
        here.writer.close()
        with here.draft.open("rb") as file:
            os.fsync(file.fileno())
            return Part(here.draft, partition, here.number, here.rows, checksum_of(file))

    def _split(self, rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rows of each partition in their order, without the columns that are its folders."""
        by = self._layout.partition_by
        if not by:
            yield "", rows
            return
        columns = [column_values(rows.schema.field(name), rows.column(name)) for name in by]
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, values in enumerate(zip(*columns, strict=True)):
            places.setdefault(values, []).append(place)
        inner = rows.select([name for name in rows.schema.names if name not in by])
        take: Any = pc
        for values, found in places.items():
            folders = (partition_folder(name, _text(value)) for name, value in zip(by, values, strict=True))
            yield joined(*folders), take.take(inner, pa.array(found, pa.int64()))


def checksum_of(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _can_be_folder(type_: pa.DataType) -> bool:
    types: Any = pa.types
    return any(
        is_it(type_) for is_it in (types.is_string, types.is_integer, types.is_decimal, types.is_boolean, types.is_date)
    )


def _text(value: str | bool | int | Decimal | datetime.date | None) -> str | None:
    return None if value is None else plain_text(value)
