"""The inputs of a set-wise stage, each in a table of the engine; what is too much is in the spill folder."""

from collections.abc import Mapping

import pyarrow as pa

from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import SetStage, Setting
from dataaggregator.dataplane.steps.engine import BATCH_ROWS
from dataaggregator.dataplane.steps.gathered import BATCH_BYTES, Gathered
from dataaggregator.dataplane.steps.names import exact, one_name_each


class Collecting(SetStage):
    """Keeps each input in a table of its own; `read` counts the flow, `inputs` each input by name."""

    def __init__(self, setting: Setting, schema: pa.Schema, inputs: Mapping[str, pa.Schema]) -> None:
        super().__init__(setting, schema)
        self.inputs = inputs
        self.read = dict.fromkeys(inputs, 0)
        self._bytes = dict.fromkeys(inputs, 0)
        for of_input in inputs.values():
            place = setting.place()
            one_name_each(of_input, place)
            exact(of_input.names, of_input, place)
        self.gathered = Gathered(setting, inputs)
        self.tables = self.gathered.tables

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        with self.timed():
            self.tally.batches += 1
            self.read[name] += rows.num_rows
            self._bytes[name] += rows.nbytes
            self.gathered.add(name, rows)

    def batch_rows(self) -> int:
        """How many rows, each as wide as one of every input, are a batch."""
        width = sum(self._bytes[name] / max(1, read) for name, read in self.read.items())
        return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(1, width))))


def restored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch the engine gave, in the types of the schema."""
    columns = [types.restore(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
