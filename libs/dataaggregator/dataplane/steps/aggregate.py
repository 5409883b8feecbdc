"""aggregate: rows brought together in groups. Law: the hidden count(*), summed over the groups, = read."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import AggregateStep
from dataaggregator.dataplane.compile.parameters import bind
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.collected import Collecting, restored
from dataaggregator.dataplane.steps.engine import Place, quote
from dataaggregator.dataplane.steps.guard import check_measure
from dataaggregator.dataplane.steps.names import distinct, known, position
from dataaggregator.dataplane.steps.widening import opening, widened
from dataaggregator.errors import Invalid, Permanent

_OPEN = "SELECT (\n"


class Aggregate(Collecting):
    """Measures are the engine's aggregates over each group; without `by` there is one group, even of no rows."""

    kind = "aggregate"

    def __init__(
        self, step: AggregateStep, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]
    ) -> None:
        by, measures = step.aggregate.by, step.aggregate.measures
        known(by, schema, setting.place("aggregate.by"))
        distinct([*by, *measures], setting.place("aggregate.measures"))
        self._flow = next(iter(inputs))
        self._fields = _fields(step, schema, setting)
        super().__init__(setting, schema, {self._flow: pa.schema([schema.field(at) for at in self._fields])})
        if by:
            self.gathered.part_by({self._flow: [quote(name) for name in by]})
        table, grouping = self.tables[self._flow], ", ".join(quote(name) for name in by)
        tail = f" FROM {table}" + (f" GROUP BY {grouping}" if by else "")
        columns = [quote(name) for name in by]
        self._values: dict[str, Any] = {}
        self._measures: list[tuple[str, dict[str, Any], Place]] = []
        fields = [schema.field(position(schema, name)) for name in by]
        for at, (name, text) in enumerate(measures.items()):
            bound = bind(text, at)
            place = setting.place(f"aggregate.measures.{name}", before=_OPEN, text=text)
            values = bound.values(setting.parameters)
            measure, kind = widened(setting.engine, f"(\n{bound.sql}\n)", tail, values, place)
            self._values |= values
            statement = f"SELECT {measure}{tail}"
            own = setting.place(f"aggregate.measures.{name}", before=opening(statement), text=text)
            self._measures.append((statement, values, own))
            columns.append(f"{measure} AS {quote(name)}")
            fields.append(pa.field(name, kind))
        self._sql = f"SELECT {', '.join([*columns, 'count(*)::BIGINT'])}{tail}"
        self.schema = pa.schema(fields)

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        super().take(name, rows.select(self._fields))

    def give(self) -> Iterator[pa.RecordBatch]:
        tally, read = self.tally, self.read[self._flow]
        tally.read, tally.groups, tally.counted = read, 0, 0
        tally.inputs = {self._flow: InputCounts(read)}
        for batch in self._groups():
            tally.counted += pc.sum(batch.column(batch.num_columns - 1)).as_py() or 0
            tally.groups += batch.num_rows
            tally.written += batch.num_rows
            yield restored(batch.select(range(batch.num_columns - 1)), self.schema)
        if tally.counted != read:
            raise Permanent("unbalanced", f"{self.setting.stage}: {tally.counted} rows in the groups, {read} read")
        self.gathered.release()

    def _groups(self) -> Iterator[pa.RecordBatch]:
        for _ in self.gathered.portions():
            yield from self._groups_at_hand()

    def _groups_at_hand(self) -> Iterator[pa.RecordBatch]:
        engine = self.setting.engine
        try:
            yield from engine.stream(self._sql, self._values, self.setting.place("aggregate"))
        except Invalid:
            for sql, values, place in self._measures:  # the first that fails by itself tells its place
                for _ in engine.stream(sql, values, place):
                    pass
            raise


def _fields(step: AggregateStep, schema: pa.Schema, setting: Setting) -> list[int]:
    """The places of what is grouped by or measured: nothing else of a row goes into the engine."""
    words = {name.casefold() for name in step.aggregate.by}
    for at, (name, text) in enumerate(step.aggregate.measures.items()):
        place = setting.place(f"aggregate.measures.{name}", before=_OPEN, text=text)
        words |= check_measure(setting.engine, f"{_OPEN}{bind(text, at).sql}\n)", place)
    found = [at for at, name in enumerate(schema.names) if name.casefold() in words]
    if found:
        return found
    return [next((at for at, field in enumerate(schema) if types.taken(field.type)), 0)]  # rows have to be countable
