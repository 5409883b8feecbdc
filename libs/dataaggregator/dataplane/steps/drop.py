"""drop: leave these fields out. Law: read = written."""

import pyarrow as pa

from dataaggregator.contracts.steps import DropStep
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting
from dataaggregator.dataplane.steps.names import known


class Drop(RowStage):
    """Takes the other columns by place; values and types are not touched."""

    kind = "drop"

    def __init__(self, step: DropStep, schema: pa.Schema, setting: Setting) -> None:
        place = setting.place("drop")
        known(step.drop, schema, place)
        self._at = [at for at, name in enumerate(schema.names) if name not in step.drop]
        if not self._at:
            raise place.invalid("definition-invalid", "no field would be left")
        super().__init__(setting, pa.schema([schema.field(at) for at in self._at]))

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        columns = [flow.rows.column(at) for at in self._at]
        return flow.with_rows(pa.RecordBatch.from_arrays(columns, schema=self.schema))
