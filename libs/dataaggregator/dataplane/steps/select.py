"""select: keep these fields, in this order. Law: read = written."""

import pyarrow as pa

from dataaggregator.contracts.steps import SelectStep
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting
from dataaggregator.dataplane.steps.names import known, position


class Select(RowStage):
    """Takes columns by place; values and types are not touched."""

    kind = "select"

    def __init__(self, step: SelectStep, schema: pa.Schema, setting: Setting) -> None:
        known(step.select, schema, setting.place("select"))
        self._at = [position(schema, name) for name in step.select]
        super().__init__(setting, pa.schema([schema.field(at) for at in self._at]))

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        columns = [flow.rows.column(at) for at in self._at]
        return flow.with_rows(pa.RecordBatch.from_arrays(columns, schema=self.schema))
