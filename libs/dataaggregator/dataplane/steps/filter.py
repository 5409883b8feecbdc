"""filter: let pass the rows for which a condition is true. Law: read = written + filtered."""

import pyarrow as pa

from dataaggregator.contracts.steps import FilterStep
from dataaggregator.dataplane.batch import CONDITION_FALSE, CONDITION_NULL
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting
from dataaggregator.dataplane.steps.expressions import Expressions


class Filter(RowStage):
    """A row whose condition is neither true nor false is counted apart."""

    kind = "filter"

    def __init__(self, step: FilterStep, schema: pa.Schema, setting: Setting) -> None:
        self._condition = Expressions(setting, schema, [("filter", step.filter)])
        boolean(self._condition.types[0], setting, "filter")
        super().__init__(setting, schema)

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        answer = self._condition.evaluate(flow.rows)[0].cast(pa.bool_())
        kept = flow.keep(answer.fill_null(False))
        nulls = answer.null_count
        for rule, count in ((CONDITION_NULL, nulls), (CONDITION_FALSE, len(answer) - nulls - kept.rows.num_rows)):
            if count:
                self.tally.filtered[rule] += count
        return kept


def boolean(kind: pa.DataType, setting: Setting, path: str) -> None:
    """Raise Invalid for a condition that gives something else than true, false or null."""
    if not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        message = f"a condition is true or false, this one gives {kind}; compare it with something"
        raise setting.place(path).invalid("definition-invalid", message)
