"""How rows become a file: CSV, one JSON document a line, or Parquet."""

from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.connector.documents import column_values, plain_text, records
from dataaggregator_connectors.files.config import CsvOptions


class RowWriter(Protocol):
    def write(self, rows: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


def open_writer(path: Path, form: str, schema: pa.Schema, options: CsvOptions) -> RowWriter:
    if form == "parquet":
        return ParquetRows(path, schema)
    return CsvRows(path, schema, options) if form == "csv" else JsonLines(path)


class ParquetRows:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(rows)

    def close(self) -> None:
        self._writer.close()


class CsvRows:
    """NULL is the first of the configured null texts, unquoted; every text that could be taken for it is quoted."""

    def __init__(self, path: Path, schema: pa.Schema, options: CsvOptions) -> None:
        self._options = options
        self._null = options.null[0] if options.null else ""
        self._file = path.open("w", encoding=options.encoding, newline="")
        if options.header:
            self._file.write(self._line([self._quoted(name) for name in schema.names]))

    def write(self, rows: pa.RecordBatch) -> None:
        columns = [
            [self._field(value) for value in column_values(field, column)]
            for field, column in zip(rows.schema, rows.columns, strict=True)
        ]
        self._file.writelines(self._line(list(values)) for values in zip(*columns, strict=True))

    def close(self) -> None:
        self._file.close()

    def _line(self, fields: list[str]) -> str:
        return self._options.delimiter.join(fields) + "\n"

    def _field(self, value: Any) -> str:
        return self._null if value is None else self._quoted(value if isinstance(value, str) else plain_text(value))

    def _quoted(self, text: str) -> str:
        quote = self._options.quote
        special = (self._options.delimiter, quote, "\n", "\r")
        if text in self._options.null or text != text.strip() or any(mark in text for mark in special):
            return quote + text.replace(quote, quote * 2) + quote
        return text


class JsonLines:
    """What JSON has no type for is written as text, so that no reader rounds or loses it: decimals, NaN, bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, rows: pa.RecordBatch) -> None:
        for row in records(rows):
            self._file.write(orjson.dumps(row, default=plain_text, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()
