"""Rows of a set-wise step, gathered in tables of the engine: all of them when they are few, else portion by portion.

Of many, those whose keys have the same hash are put into one part of a file. Afterwards a few parts at a time are in
the tables, and the step runs the same statement over each portion: what that takes does not grow with the rows, nor
with the keys. A part that is too large for a portion is parted once more, by other bits of the hash.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import pyarrow as pa

from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.engine import ROWS
from dataaggregator.dataplane.steps.rowfile import RowFile
from dataaggregator.errors import Permanent

WHOLE_BYTES = 8 << 20
"""So much the tables take before anything is put into parts."""
PORTION_BYTES = 4 << 20
"""With what a statement makes of it, this fits into what the engine holds before it spills."""
BATCH_BYTES = 2 << 20
BITS = 6
MOST = 0.9
"""A part with that share of all that was parted is few keys, or one: parting it again would not make it smaller."""


class _Input:
    """One input: its table, and what is too much for that, by parts."""

    def __init__(self, setting: Setting, table: str, key: Sequence[str], depth: int = 0) -> None:
        self._setting, self._key, self._depth = setting, key, depth
        self._engine, self._place = setting.engine, setting.place()
        # The engine uses other bits of the hash itself: hence the hash of a hash.
        part = f"CAST((hash(hash({', '.join(key)})) >> {BITS * depth}) & {2**BITS - 1} AS UTINYINT)"
        self._numbered = f"SELECT *, {part} FROM {ROWS}"
        self.table = table
        self.file = RowFile(self._engine, self._place)
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = self._rows = self.bytes = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Into the table."""
        self._engine.append(self.table, rows, self._place)
        self._rows += rows.num_rows
        self.bytes += rows.nbytes

    def divide(self, rows: pa.RecordBatch) -> None:
        """Into the file, past the table. What waits until there is enough of it is the engine's answer: these rows
        may be a few fields of many, and would hold them all."""
        self._waiting.append(self._engine.evaluate(rows, self._numbered, {}, self._place))
        self._waiting_bytes += self._waiting[-1].nbytes
        if self._waiting_bytes > BATCH_BYTES:
            self.write()

    def write(self) -> None:
        """What waits as well."""
        for rows in pa.concat_tables(self._waiting).combine_chunks().to_batches() if self._waiting else ():
            last = rows.num_columns - 1
            self.file.divide(rows.select(range(last)), rows.column(last))
        self._waiting, self._waiting_bytes = [], 0

    def part(self) -> None:
        """From the table into the file."""
        batch_rows = max(1, self._rows * BATCH_BYTES // max(1, self.bytes))
        for rows in self._engine.stream(f"SELECT * FROM {self.table}", {}, self._place, batch_rows):
            self.divide(rows)
        self.clear()

    def fill(self, parts: Sequence[int]) -> None:
        """From the file into the table."""
        for rows in self._read(parts):
            self.add(rows)

    def _read(self, parts: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """The pieces of a part are small: some of them together are faster to take in."""
        pieces: list[pa.RecordBatch] = []
        size = 0
        for piece in chain.from_iterable(map(self.file.batches, parts)):
            pieces.append(piece)
            size += piece.nbytes
            if size > BATCH_BYTES:
                table = pa.Table.from_batches(pieces).combine_chunks()
                pieces, size = [], 0
                yield from table.to_batches()
        if pieces:
            yield from pa.Table.from_batches(pieces).combine_chunks().to_batches()

    def clear(self) -> None:
        """Give back the rows of a portion and what the work on it needed, before another one begins."""
        self._engine.empty(self.table)
        self._engine.give_back()
        self._rows = self.bytes = 0

    def deeper(self, part: int) -> "_Input":
        """One part by itself, parted again."""
        found = _Input(self._setting, self.table, self._key, self._depth + 1)
        for rows in self._read([part]):
            found.divide(rows)
        found.write()
        self._engine.give_back()  # it is in the way of what is made of the portions
        return found


class Gathered:
    """The rows of a step's inputs, in `tables` by the names of the inputs."""

    def __init__(self, setting: Setting, schemas: Mapping[str, pa.Schema]) -> None:
        self._setting = setting
        self.tables = {name: setting.engine.table(schema) for name, schema in schemas.items()}
        self._inputs: Mapping[str, _Input] = {}
        self._read = 0
        self.parted = False

    def part_by(self, keys: Mapping[str, Sequence[str]]) -> None:
        """Rows that the step looks at together have the same values of these expressions, one for one in each input.

        Without them all rows stay together, and the engine has to do with its memory.
        """
        self._inputs = {name: _Input(self._setting, self.tables[name], key) for name, key in keys.items()}

    def add(self, name: str, rows: pa.RecordBatch) -> None:
        if not self._inputs:
            self._setting.engine.append(self.tables[name], rows, self._setting.place())
            return
        one = self._inputs[name]
        self._read += rows.num_rows
        if self.parted:
            one.divide(rows)
            return
        one.add(rows)
        if sum(each.bytes for each in self._inputs.values()) > WHOLE_BYTES:
            self.parted = True
            for each in self._inputs.values():
                each.part()

    def portions(self) -> Iterator[None]:
        """Each time another portion of the rows is in the tables; once, when they are few.

        Raises Permanent (`unbalanced`) at the end unless every row was in one: a join could not tell, for rows that it
        does not see are rows without a match.
        """
        if not self.parted:
            yield
            return
        seen = 0
        for one in self._inputs.values():
            one.write()
        for _ in _portions(list(self._inputs.values())):
            seen += sum(self._count(table) for table in self.tables.values())
            yield
        if seen != self._read:
            stage = self._setting.stage
            raise Permanent("unbalanced", f"{stage}: {seen} rows were in a portion, {self._read} were read")

    def _count(self, table: str) -> int:
        return int(self._setting.engine.row(f"SELECT count(*) FROM {table}", self._setting.place())[0])

    def release(self) -> None:
        """Give memory and disk back."""
        for table in self.tables.values():
            self._setting.engine.drop(table)
        for one in self._inputs.values():
            one.file.remove()


def _portions(inputs: Sequence[_Input]) -> Iterator[None]:
    sizes = [sum(one.file.sizes[part] for one in inputs) for part in range(2**BITS)]
    together: list[int] = []
    for part, size in enumerate(sizes):
        if PORTION_BYTES < size < MOST * sum(sizes):
            deeper = [one.deeper(part) for one in inputs]
            yield from _portions(deeper)
            for one in deeper:
                one.file.remove()
            continue
        if together and size + sum(sizes[other] for other in together) > PORTION_BYTES:
            yield from _filled(inputs, together)
            together = []
        together.append(part)
    yield from _filled(inputs, together)


def _filled(inputs: Sequence[_Input], parts: Sequence[int]) -> Iterator[None]:
    for one in inputs:
        one.fill(parts)
    yield
    for one in inputs:
        one.clear()
