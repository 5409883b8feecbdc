"""python: the user's transform(rows) over all rows as one table, in a process of its own, which counts nothing.

Without row ids no law can be proved for it: `expect` makes its accounting declared, else it is unaccounted.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from dataaggregator.contracts.steps import PythonStep
from dataaggregator.dataplane import expectation
from dataaggregator.dataplane.compile.python import takes_parameters
from dataaggregator.dataplane.compile.types import engine_type
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import SetStage, Setting
from dataaggregator.dataplane.steps.engine import Place
from dataaggregator.dataplane.steps.fitting import check_names, fitted, promised
from dataaggregator.dataplane.steps.row_ids import ROW_ID, RowIds
from dataaggregator.errors import Invalid, PlatformError


class Python(SetStage):
    """Rows go to the process as they come; it holds them until all are there."""

    kind = "python"

    def __init__(self, step: PythonStep, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]) -> None:
        super().__init__(setting, schema)
        if setting.python is None:
            raise PlatformError("sandbox-killed", "a python step came to a sandbox that has no Python process")
        self._door = setting.python
        self._flow = next(iter(inputs))
        self.inputs = {self._flow: schema}
        self._expect = self.tally.expect = step.expect
        self._place = setting.place("python")
        self._ids = RowIds(setting, schema) if step.row_ids else None
        self.accounting = "proven" if step.row_ids else expectation.accounting(step.expect)
        came_in = self._ids.schema if self._ids else schema
        parameters = setting.parameters if takes_parameters(step.python) else None
        before_rows = setting.place("python")
        before_rows.rows_shown = True
        self._number = self._door.load(step.python, came_in, before_rows, parameters)
        self.schema = self._given(step) if step.given_schema else self._found(schema, before_rows)

    def _given(self, step: PythonStep) -> pa.Schema:
        fields, engine = [], self.setting.engine
        for name, word in (step.given_schema or {}).items():
            place = self.setting.place(f"schema.{name}")
            if self._ids and name == ROW_ID:
                raise place.invalid("definition-invalid", f"{ROW_ID} is taken off again; leave it out here")
            try:
                kind = engine.bind(f"SELECT CAST(NULL AS {engine_type(word)}) AS x", {}, place).field(0).type
            except ValueError as error:
                raise place.invalid("definition-invalid", str(error)) from error
            fields.append(pa.field(name, kind))
        return pa.schema(fields)

    def _found(self, came_in: pa.Schema, place: Place) -> pa.Schema:
        """What it gives for a table without rows."""
        try:
            given = self._door.transform(self._number, place)
        except Invalid as error:
            cure = (
                "(called with a table without rows, to learn its fields; make it take one, or say them with `schema`)"
            )
            raise self._place.invalid(error.code, f"{_told(error)} {cure}") from error
        return promised(self._ids.without(given) if self._ids else given, came_in, self._place)

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        del name
        with self.timed():
            self.tally.batches += 1
            self.tally.read += rows.num_rows
            self._door.take(self._number, self._ids.numbered(rows) if self._ids else rows, self._place)

    def give(self) -> Iterator[pa.RecordBatch]:
        tally = self.tally
        tally.flow, tally.inputs = tally.read, {self._flow: InputCounts(tally.read)}
        with self.timed():
            given = self._door.transform(self._number, self._place)
        check_names(self._ids.without(given) if self._ids else given, self.schema, self._place)
        for batch in self._door.given(self._number, self._place):
            tally.written += batch.num_rows
            yield self._fitted(batch)
        if self._ids:
            tally.kept, tally.doubled, tally.invented = self._ids.count()
            tally.filtered["transform"] = tally.read - tally.kept
        expectation.hold(self._expect, tally.read, tally.written, self.setting.place("expect"))

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._ids:
            self._ids.without(batch.schema)
            batch = self._ids.take_off(batch)
        return fitted(batch, self.schema, self._place)


def _told(error: Invalid) -> str:
    return error.errors[0].message if error.errors else error.detail
