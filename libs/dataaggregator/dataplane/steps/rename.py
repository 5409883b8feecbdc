"""rename: give fields new names. Law: read = written."""

import pyarrow as pa

from dataaggregator.contracts.steps import RenameStep
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting
from dataaggregator.dataplane.steps.names import distinct, known


class Rename(RowStage):
    """Changes the schema; values and types are not touched."""

    kind = "rename"

    def __init__(self, step: RenameStep, schema: pa.Schema, setting: Setting) -> None:
        place = setting.place("rename")
        known(step.rename, schema, place)
        fields = [field.with_name(step.rename.get(field.name, field.name)) for field in schema]
        distinct([field.name for field in fields], place)
        super().__init__(setting, pa.schema(fields))

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        return flow.with_rows(pa.RecordBatch.from_arrays(flow.rows.columns, schema=self.schema))
