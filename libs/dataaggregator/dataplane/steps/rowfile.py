"""Rows in a file of the spill folder: in the order in which they came, or by parts, each read by itself."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.dataplane.steps.types import Column
from dataaggregator.errors import Permanent

PIECE_BYTES = 4 << 20
_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class RowFile:
    """Of any schema, and with one piece of it in memory at most. First rows are appended, then they are read."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self._engine = engine
        self._place = place
        self._path = engine.spill_path("rows.arrow")
        self._file: pa.OSFile | None = None
        self._pieces: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))
        self.sizes: Counter[int] = Counter()
        """Bytes by part, as they are in memory."""

    def append(self, rows: pa.RecordBatch) -> None:
        """Raises Permanent (`sandbox-disk`) when the spill folder is full."""
        self._write(rows, 0)
        self._check_room()

    def divide(self, rows: pa.RecordBatch, parts: Column) -> None:
        """Append each row to the part whose number stands beside it."""
        order = pc.sort_indices(parts)
        rows, at = rows.take(order), 0
        for one in pc.value_counts(parts.take(order)):
            count = one["counts"].as_py()
            self._write(rows.slice(at, count), one["values"].as_py())
            at += count
        self._check_room()

    def _write(self, rows: pa.RecordBatch, part: int) -> None:
        piece = max(1, rows.num_rows * PIECE_BYTES // max(1, rows.nbytes))
        self.sizes[part] += rows.nbytes
        try:
            self._file = self._file or pa.OSFile(str(self._path), "wb")
            for at in range(0, rows.num_rows, piece):
                self._pieces[part].append(self._file.tell())
                with pa.ipc.new_stream(self._file, rows.schema, options=_WRITING) as writer:
                    writer.write_batch(rows.slice(at, piece))
        except OSError as error:
            raise self._full(f"cannot be written to any more ({error.strerror})") from error

    def batches(self, part: int = 0) -> Iterator[pa.RecordBatch]:
        """The rows of one part, in the order in which they came."""
        if self._file is None:
            return
        self._file.close()
        with pa.OSFile(str(self._path), "rb") as file:
            for at in self._pieces.get(part, ()):
                file.seek(at)
                yield pa.ipc.open_stream(file).read_next_batch()

    def remove(self) -> None:
        """Give the disk back."""
        if self._file is not None:
            self._file.close()
            self._path.unlink()

    def _check_room(self) -> None:
        if self._engine.spilled_bytes() > self._engine.spill_bytes:
            raise self._full("is full")

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
