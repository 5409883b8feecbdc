"""Rows in a file of the spill folder, in the order in which they came: for what is neither grouped nor sorted."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.errors import Permanent

PIECE_BYTES = 4 << 20
_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class RowFile:
    """Of any schema, and with one piece of it in memory at most. First rows are appended, then they are read once."""

    def __init__(self, engine: Engine, schema: pa.Schema, place: Place) -> None:
        self._engine = engine
        self._place = place
        self._path = engine.spill_path("rows.arrow")
        self._file = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_stream(self._file, schema, options=_WRITING)

    def append(self, rows: pa.RecordBatch) -> None:
        """Raises Permanent (`sandbox-disk`) when the spill folder is full."""
        piece = max(1, rows.num_rows * PIECE_BYTES // max(1, rows.nbytes))
        try:
            for at in range(0, rows.num_rows, piece):
                self._writer.write_batch(rows.slice(at, piece))
        except OSError as error:
            raise self._full(f"cannot be written to any more ({error.strerror})") from error
        if self._engine.spilled_bytes() > self._engine.spill_bytes:
            raise self._full("is full")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows; the file goes with the last of them."""
        self._writer.close()
        self._file.close()
        with pa.OSFile(str(self._path), "rb") as file:
            yield from pa.ipc.open_stream(file)
        self._path.unlink()

    def _full(self, how: str) -> Permanent:
        return Permanent("sandbox-disk", f"{self._place.stage}: the spill folder {how}")


class Upwards:
    """Rows sorted by their first column, an int64, given out by a bound that only rises."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: pa.RecordBatch | None = None

    def below(self, bound: int) -> Sequence[pa.RecordBatch]:
        """Those below it that were not given out yet."""
        found = []
        while (rows := self._left or next(self._batches, None)) is not None:
            count = len(pc.indices_nonzero(pc.less(rows.column(0), pa.scalar(bound, pa.int64()))))
            found.append(rows.slice(0, count))
            self._left = rows.slice(count) if count < rows.num_rows else None
            if self._left is not None:
                break
        return found
