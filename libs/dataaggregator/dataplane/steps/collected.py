"""The inputs of a set-wise stage, kept whole in the engine, which writes to the spill folder what is too much."""

from collections.abc import Mapping

import pyarrow as pa

from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import SetStage, Setting
from dataaggregator.dataplane.steps.names import exact, one_name_each


class Collecting(SetStage):
    """Keeps each input in a table of its own; `read` counts the flow, `inputs` each input by name."""

    def __init__(self, setting: Setting, schema: pa.Schema, inputs: Mapping[str, pa.Schema]) -> None:
        super().__init__(setting, schema)
        self.inputs = inputs
        self.read = dict.fromkeys(inputs, 0)
        self.tables: dict[str, str] = {}
        for name, of_input in inputs.items():
            place = setting.place()
            one_name_each(of_input, place)
            exact(of_input.names, of_input, place)
            self.tables[name] = setting.engine.table(of_input)

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        with self.timed():
            self.tally.batches += 1
            self.read[name] += rows.num_rows
            self.setting.engine.append(self.tables[name], rows, self.setting.place())

    def release(self) -> None:
        """Give the inputs' memory and disk back."""
        for table in self.tables.values():
            self.setting.engine.drop(table)


def restored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch the engine gave, in the types of the schema."""
    columns = [types.restore(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
