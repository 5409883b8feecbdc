"""flatten: a struct's fields become fields of the row. Law: read = written; NULL structs count as empty."""

import pyarrow as pa

from dataaggregator.contracts.steps import FlattenStep
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting
from dataaggregator.dataplane.steps.explode import is_list
from dataaggregator.dataplane.steps.names import distinct, known, position
from dataaggregator.dataplane.steps.types import Column


class Flatten(RowStage):
    """The new fields stand where the struct stood; types and values are not touched. A NULL struct gives NULLs."""

    kind = "flatten"

    def __init__(self, step: FlattenStep, schema: pa.Schema, setting: Setting) -> None:
        name = step.flatten.field
        place = setting.place("flatten.field")
        known([name], schema, place)
        self._at = position(schema, name)
        kind = schema.field(self._at).type
        if not pa.types.is_struct(kind):
            raise place.invalid("definition-invalid", f"flatten takes a struct, {name} is {kind}{_cure(name, kind)}")
        prefix = f"{name}_" if step.flatten.prefix is None else step.flatten.prefix
        new = [pa.field(prefix + kind.field(at).name, kind.field(at).type) for at in range(kind.num_fields)]
        fields = [*list(schema)[: self._at], *new, *list(schema)[self._at + 1 :]]
        if not fields:
            raise place.invalid("definition-invalid", f"no field would be left: the struct {name} has none")
        distinct((field.name for field in fields), setting.place("flatten.prefix"))
        super().__init__(setting, pa.schema(fields))
        self.tally.empty = 0

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        columns = list(flow.rows.columns)
        whole: Column = columns[self._at]
        self.tally.empty = (self.tally.empty or 0) + whole.null_count
        columns[self._at : self._at + 1] = whole.flatten()
        return flow.with_rows(pa.RecordBatch.from_arrays(columns, schema=self.schema))


def _cure(name: str, kind: pa.DataType) -> str:
    if isinstance(kind, pa.JsonType):
        return (
            f", whose fields are not known before it is read: name them in a derive step before, such as "
            f'{name}: from_json({name}, \'{{"a": "BIGINT", "b": "VARCHAR"}}\')'
        )
    if is_list(kind):
        return "; explode it first"
    return ""
