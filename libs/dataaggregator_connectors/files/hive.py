"""Partitions: folders such as `year=2026` as columns of the files below them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dataaggregator.connector.fitting import fit_texts
from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.csv_reading import rule
from dataaggregator_connectors.files.names import partitions_of
from dataaggregator_connectors.files.tree import File


class Partitions:
    """The columns that the folders of a stream's files give, and each file's values."""

    def __init__(self, files: Sequence[File], given: Mapping[str, str]) -> None:
        found = [partitions_of(file.name) for file in files]
        self.names = tuple(found[0]) if found else ()
        for file, values in zip(files, found, strict=True):
            if tuple(values) != self.names:
                raise Invalid(
                    "file-malformed",
                    f"{file.name}: its folders name {_listed(values)}, those of {files[0].name} {_listed(self.names)}.",
                )
        self.given = {name: type_ for name, type_ in given.items() if name in self.names}
        columns = {name: [_bytes(values[name]) for values in found] for name in self.names}
        self._columns = {name: self._typed(name, pa.array(texts, pa.binary())) for name, texts in columns.items()}
        self.schema = pa.schema([pa.field(name, column.type) for name, column in self._columns.items()])

    def _typed(self, name: str, texts: "pa.Array[Any]") -> "pa.Array[Any]":
        array, reasons = fit_texts(texts, parse_schema(self.given).get(name) or rule([texts]))
        if reasons:
            raise Invalid("value-not-representable", f"Folder {name}: {next(iter(reasons.values()))}.")
        return array

    def beside(self, own: pa.Schema, first: File) -> None:
        """Two values for one column would leave one of them unread."""
        if twice := [name for name in self.names if name in own.names]:
            raise Invalid(
                "file-malformed",
                f"{first.name}: {', '.join(twice)} is in the file and in its folders; `hive: false` reads the file's.",
            )

    def added(self, batches: Iterator[Batch], place: int, wanted: pa.Schema) -> Iterator[Batch]:
        """The batches of one file with the columns wanted, its folders' among them."""
        for batch in batches:
            count = batch.rows.num_rows
            arrays = [
                pa.repeat(self._columns[name][place], count) if name in self._columns else batch.rows.column(name)
                for name in wanted.names
            ]
            yield Batch(pa.RecordBatch.from_arrays(arrays, schema=wanted), batch.read, rejected=batch.rejected)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _listed(names: Any) -> str:
    return ", ".join(names) or "none"
