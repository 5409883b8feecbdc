"""download: rejected rows as a file, made piece by piece while it is sent. Blocking: called in a thread."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.errors import FieldError, Invalid
from services.executor.rejected import Part, read_parts, types_of
from services.executor.rejected_files import FilesOfRun
from services.executor.store.quarantine import StoredEntry

COLUMNS = ("stage", "kind", "rule", "reason", "position", "row")

Pieces = Iterator[bytes]


@dataclass(frozen=True)
class Format:
    media_type: str
    pieces: Callable[[FilesOfRun, Sequence[StoredEntry]], Pieces]


def _ndjson(files: FilesOfRun, entries: Sequence[StoredEntry]) -> Pieces:
    for part in read_parts(files, entries):
        yield "".join(f"{_json(asdict(row))}\n" for row in part.shown()).encode()


def _csv(files: FilesOfRun, entries: Sequence[StoredEntry]) -> Pieces:
    """The row is JSON in one field, because rows of several stages have different fields."""
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    for part in read_parts(files, entries):
        for row in part.shown():
            writer.writerow((row.stage, row.kind, row.rule, row.reason, row.position, _json(row.row)))
        yield _taken(written).encode()
    if rest := _taken(written):
        yield rest.encode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _taken(written: io.StringIO) -> str:
    text = written.getvalue()
    written.seek(0)
    written.truncate()
    return text


def _parquet(files: FilesOfRun, entries: Sequence[StoredEntry]) -> Pieces:
    """The rows keep their types, so that all of them have to have the same."""
    row = _one_type(types_of(files, entries))
    schema = pa.schema([*((name, pa.string()) for name in COLUMNS[:-1]), ("row", row)])
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for part in read_parts(files, entries):
            writer.write_table(_with_entry(part, schema))
            yield sink.take()
    yield sink.take()


def _one_type(found: Mapping[pa.DataType, Sequence[StoredEntry]]) -> pa.DataType:
    if len(found) > 1:
        places = "; ".join(f"stage={held[0].stage}&rule={held[0].rule}" for held in found.values())
        message = f"the rows have different fields; choose a stage or rule ({places}), or another format"
        raise Invalid(
            "rejected-rows-differ",
            f"One Parquet file holds rows of one kind: {message}.",
            errors=[FieldError("format", message, "rejected-rows-differ")],
        )
    return next(iter(found), pa.string())


def _with_entry(part: Part, schema: pa.Schema) -> pa.Table:
    entry, rows = part.entry, part.rows
    told = [pa.repeat(pa.scalar(text, pa.string()), rows.num_rows) for text in (entry.stage, entry.kind, entry.rule)]
    return pa.table([*told, rows["reason"], rows["position"], rows["row"]], schema=schema)


class _Sink(io.RawIOBase):
    """What was written and not yet taken."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # the writer hands over bytes
        self._held += data
        return len(data)

    def take(self) -> bytes:
        taken, self._held = bytes(self._held), bytearray()
        return taken


FORMATS: Mapping[str, Format] = {
    "ndjson": Format("application/x-ndjson", _ndjson),
    "csv": Format("text/csv", _csv),
    "parquet": Format("application/vnd.apache.parquet", _parquet),
}
