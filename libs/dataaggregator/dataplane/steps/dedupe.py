"""dedupe: one row of those with the same key. Law: read = kept + duplicates, counted by a hidden count(*) a key.

Equal is what GROUP BY takes for equal: the exact value, NULL like NULL, NaN like NaN, -0.0 like 0.0. Each row is kept
with its place as it was read, in a column of its own: what was spilled comes back in any order. Rows leave in the order
in which they were read.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import DedupeStep, direction
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.collected import Collecting, restored
from dataaggregator.dataplane.steps.engine import quote
from dataaggregator.dataplane.steps.names import free, known
from dataaggregator.errors import Permanent


class Dedupe(Collecting):
    """The winner of each key is found by its place, so that only keys, places and `order_by` are grouped or sorted."""

    kind = "dedupe"

    def __init__(self, step: DedupeStep, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]) -> None:
        self._dedupe = step.dedupe
        self._order = [direction(word) for word in step.dedupe.order_by]
        known(step.dedupe.key, schema, setting.place("dedupe.key"))
        known((name for name, _ in self._order), schema, setting.place("dedupe.order_by"))
        self._flow = next(iter(inputs))
        self._place = free(schema.names, "place")
        self._starts = {self._flow: 0}
        super().__init__(setting, schema, {self._flow: schema.append(pa.field(self._place, pa.int64()))})
        columns = ", ".join(f"t.{quote(name)}" for name in schema.names)
        table, place = self.tables[self._flow], quote(self._place)
        self._sql = (
            f"SELECT {columns}, w.n FROM {table} t JOIN ({self._winners(table)}) w ON t.{place} = w.place "
            f"ORDER BY t.{place}"
        )

    def _winners(self, table: str) -> str:
        """The place of the row to keep of each key, and how many rows have that key."""
        first, place = self._dedupe.keep == "first", f"t.{quote(self._place)}"
        key = ", ".join(f"t.{quote(name)}" for name in self._dedupe.key)
        if not self._order:
            return f"SELECT {'min' if first else 'max'}({place}) AS place, count(*) AS n FROM {table} t GROUP BY {key}"
        turned = [f"t.{quote(name)} {'ASC' if first != down else 'DESC'} NULLS LAST" for name, down in self._order]
        turned.append(f"{place} {'ASC' if first else 'DESC'}")
        return (
            f"SELECT place, n FROM (SELECT {place} AS place, row_number() OVER key AS turn, "
            "count(*) OVER (key ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS n "
            f"FROM {table} t WINDOW key AS (PARTITION BY {key} ORDER BY {', '.join(turned)})) WHERE turn = 1"
        )

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        start = self._starts[name] + self.read[name]
        places = pa.array(range(start, start + rows.num_rows), pa.int64())
        super().take(name, rows.append_column(self._place, places))

    def give(self) -> Iterator[pa.RecordBatch]:
        tally, read = self.tally, sum(self.read.values())
        tally.read, tally.kept, tally.duplicates = read, 0, 0
        tally.inputs = {name: InputCounts(count) for name, count in self.read.items()}
        for batch in self.setting.engine.stream(self._sql, {}, self.setting.place(self.kind)):
            alike = pc.sum(batch.column(batch.num_columns - 1)).as_py() or 0
            tally.kept += batch.num_rows
            tally.duplicates += alike - batch.num_rows
            tally.written += batch.num_rows
            yield restored(batch.select(range(batch.num_columns - 1)), self.schema)
        if tally.kept + tally.duplicates != read:
            counted = f"{tally.kept} rows kept and {tally.duplicates} duplicates"
            raise Permanent("unbalanced", f"{self.setting.stage}: {counted}, {read} read")
        self.release()
