"""dedupe: one row of those with the same key. Law: read = kept + duplicates, counted by a hidden count(*) a key.

Equal is what GROUP BY takes for equal: the exact value, NULL like NULL, NaN like NaN, -0.0 like 0.0. The engine gets
the fields of the key and of the order only, each with the row's place as it was read: the rows themselves wait in a
file, unchanged and however wide, and leave in the order in which they were read. Where the keys were too many to be
looked at together, the places of the rows to keep are sorted stretch by stretch of all places.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import DedupeStep, direction
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import SetStage, Setting, array
from dataaggregator.dataplane.steps.engine import quote
from dataaggregator.dataplane.steps.gathered import Gathered
from dataaggregator.dataplane.steps.names import exact, free, known, one_name_each
from dataaggregator.dataplane.steps.rowfile import RowFile, Upwards
from dataaggregator.errors import Permanent

_COMPARED = "compared"
STRETCH_ROWS = 1 << 18
STRETCHES = 1024
"""Of very many rows the stretches are longer. One is sorted in memory, eight bytes a row."""


class Dedupe(SetStage):
    """The winner of each key is found by its place."""

    kind = "dedupe"

    def __init__(self, step: DedupeStep, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]) -> None:
        super().__init__(setting, schema)
        self._dedupe = step.dedupe
        self._order = [direction(word) for word in step.dedupe.order_by]
        known(step.dedupe.key, schema, setting.place("dedupe.key"))
        known((name for name, _ in self._order), schema, setting.place("dedupe.order_by"))
        self._compared = list(dict.fromkeys([*step.dedupe.key, *(name for name, _ in self._order)]))
        compared = pa.schema([schema.field(name) for name in self._compared])
        one_name_each(compared, setting.place())
        exact(self._compared, compared, setting.place())
        self._place = free(self._compared, "place")
        self._gathered = Gathered(setting, {_COMPARED: compared.append(pa.field(self._place, pa.int64()))})
        self._gathered.part_by({_COMPARED: [quote(name) for name in step.dedupe.key]})
        flow = next(iter(inputs))
        self.inputs = {flow: schema}
        self._rows: dict[str, RowFile] = {}
        self._read: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._open(flow, 0)

    def _open(self, name: str, first: int) -> None:
        """Rows of an input have places from `first` on."""
        self._rows[name] = RowFile(self.setting.engine, self.setting.place())
        self._read[name], self._first[name] = 0, first

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        with self.timed():
            self.tally.batches += 1
            first = self._first[name] + self._read[name]
            self._read[name] += rows.num_rows
            places = pa.array(range(first, first + rows.num_rows), pa.int64())
            compared = rows.select(self._compared).append_column(self._place, places)
            self._gathered.add(_COMPARED, compared)
            self._rows[name].append(rows)

    def give(self) -> Iterator[pa.RecordBatch]:
        tally, read = self.tally, sum(self._read.values())
        tally.read, tally.kept, tally.duplicates = read, 0, 0
        tally.inputs = {name: InputCounts(count) for name, count in self._read.items()}
        winners = Upwards(self._upwards(read) if self._gathered.parted else self._winners())
        for name in sorted(self._first, key=self._first.__getitem__):
            first = self._first[name]
            for rows in self._rows[name].batches():
                for chosen in winners.below(first + rows.num_rows):
                    tally.kept += chosen.num_rows
                    tally.written += chosen.num_rows
                    yield rows.take(pc.subtract(chosen.column(0), first))
                first += rows.num_rows
            self._rows[name].remove()
        if tally.kept + tally.duplicates + (tally.deleted or 0) != read:
            counted = f"{tally.kept} rows kept and {tally.duplicates} duplicates"
            raise Permanent("unbalanced", f"{self.setting.stage}: {counted}, {read} read")
        self._gathered.release()

    def _upwards(self, read: int) -> Iterator[pa.RecordBatch]:
        """The places of the rows to keep, upwards over all portions."""
        stretch, file = max(STRETCH_ROWS, read // STRETCHES), RowFile(self.setting.engine, self.setting.place())
        for chosen in self._winners():
            file.divide(chosen, pc.divide(chosen.column(0), stretch))
        for part in sorted(file.sizes):
            places = array(pa.Table.from_batches(file.batches(part)).column(0))
            yield pa.RecordBatch.from_arrays([places.take(pc.sort_indices(places))], names=["place"])
        file.remove()

    def _winners(self) -> Iterator[pa.RecordBatch]:
        """The places of the rows to keep, upwards within a portion."""
        engine, place = self.setting.engine, self.setting.place(self.kind)
        for _ in self._gathered.portions():
            for rows in engine.stream(f"SELECT place, n FROM ({self._statement()}) ORDER BY place", {}, place):
                duplicates = (pc.sum(rows.column(1)).as_py() or 0) - rows.num_rows
                self.tally.duplicates = (self.tally.duplicates or 0) + duplicates
                yield rows.select([0])

    def _statement(self) -> str:
        """The place of the row to keep of each key, and how many rows have that key."""
        first, place = self._dedupe.keep == "first", f"t.{quote(self._place)}"
        table = self._gathered.tables[_COMPARED]
        key = ", ".join(f"t.{quote(name)}" for name in self._dedupe.key)
        if not self._order:
            found = f"{'min' if first else 'max'}({place}) AS place, count(*) AS n"
            return f"SELECT {found} FROM {table} t GROUP BY {key}"
        turned = [f"t.{quote(name)} {'ASC' if first != down else 'DESC'} NULLS LAST" for name, down in self._order]
        turned.append(f"{place} {'ASC' if first else 'DESC'}")
        return (
            f"SELECT place, n FROM (SELECT {place} AS place, row_number() OVER key AS turn, "
            "count(*) OVER (key ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS n "
            f"FROM {table} t WINDOW key AS (PARTITION BY {key} ORDER BY {', '.join(turned)})) WHERE turn = 1"
        )
