"""How rows become a file: CSV, one JSON document a line, Parquet or Arrow."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from dataaggregator.connector.documents import column_values, plain_text, records
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import Compression, CsvOptions

DICTIONARY_BYTES = 4 * 1024
"""A column with more values than this holds is written without one: among the rows of a batch it saves nothing, and to
make it takes as long as all else of a file."""


class RowWriter(Protocol):
    def write(self, rows: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


def open_writer(
    path: Path, form: str, schema: pa.Schema, options: CsvOptions, compression: Compression | None = None
) -> RowWriter:
    match form:
        case "parquet":
            return ParquetRows(path, schema)
        case "arrow":
            return ArrowRows(path, schema)
        case "csv":
            return CsvRows(_opened(path, compression), schema, options)
        case _:
            return JsonLines(_opened(path, compression))


def _opened(path: Path, compression: Compression | None) -> BinaryIO:
    return path.open("wb") if compression is None else io.BufferedWriter(Packed(path, compression))


class Packed(io.RawIOBase):
    """A compressed file as Python's own writers want one."""

    def __init__(self, path: Path, compression: Compression) -> None:
        self._stream = pa.output_stream(path, compression=compression)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class ParquetRows:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        options: dict[str, Any] = {"compression": "zstd", "dictionary_pagesize_limit": DICTIONARY_BYTES}
        self._writer = pq.ParquetWriter(path, schema, **options)

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(rows)

    def close(self) -> None:
        self._writer.close()


class ArrowRows:
    """The format with a footer: a file that breaks off has none, and no reader takes it for whole."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._writer = ipc.new_file(self._file, schema, options=ipc.IpcWriteOptions(compression="zstd"))

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(rows)

    def close(self) -> None:
        self._writer.close()
        self._file.close()


class CsvRows:
    """NULL is the first of the configured null texts, unquoted; every text that could be taken for it is quoted."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, options: CsvOptions) -> None:
        self._options = options
        self._null = options.null[0] if options.null else ""
        self._file = io.TextIOWrapper(file, encoding=options.encoding, newline="")
        if options.header:
            try:
                self._write([(name, [self._quoted(name)]) for name in schema.names])
            except Invalid:
                self.close()
                raise

    def write(self, rows: pa.RecordBatch) -> None:
        self._write(
            [
                (field.name, [self._field(value) for value in column_values(field, column)])
                for field, column in zip(rows.schema, rows.columns, strict=True)
            ]
        )

    def close(self) -> None:
        self._file.close()

    def _write(self, columns: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Texts of each column, one a line; Invalid "value-does-not-fit" names the column that the encoding has not."""
        delimiter = self._options.delimiter
        lines = (delimiter.join(line) + "\n" for line in zip(*(texts for _, texts in columns), strict=True))
        try:
            self._file.writelines(lines)
        except UnicodeEncodeError as error:
            strange = error.object[error.start]
            name = next(name for name, texts in columns if any(strange in text for text in texts))
            detail = f"Column {name}: {strange!r} is not in {self._options.encoding}; utf-8 has every character."
            raise Invalid("value-does-not-fit", detail) from error

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

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: pa.RecordBatch) -> None:
        for row in records(rows):
            self._file.write(orjson.dumps(row, default=plain_text, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()
