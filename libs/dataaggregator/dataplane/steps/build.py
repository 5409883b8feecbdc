"""From a step's definition to the step at work: the table of kinds."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from dataaggregator.contracts.steps import (
    AggregateStep,
    CastStep,
    DedupeStep,
    DeriveStep,
    DropStep,
    ExplodeStep,
    FilterStep,
    FlattenStep,
    JoinStep,
    MaskStep,
    PythonStep,
    RenameStep,
    SelectStep,
    SqlStep,
    Step,
    ValidateStep,
)
from dataaggregator.dataplane.steps.aggregate import Aggregate
from dataaggregator.dataplane.steps.base import ManyStage, RowStage, SetStage, Setting
from dataaggregator.dataplane.steps.cast import Cast
from dataaggregator.dataplane.steps.dedupe import Dedupe
from dataaggregator.dataplane.steps.derive import Derive
from dataaggregator.dataplane.steps.drop import Drop
from dataaggregator.dataplane.steps.explode import Explode
from dataaggregator.dataplane.steps.filter import Filter
from dataaggregator.dataplane.steps.flatten import Flatten
from dataaggregator.dataplane.steps.join import Join
from dataaggregator.dataplane.steps.mask import Mask
from dataaggregator.dataplane.steps.python import Python
from dataaggregator.dataplane.steps.rename import Rename
from dataaggregator.dataplane.steps.select import Select
from dataaggregator.dataplane.steps.sql import Sql
from dataaggregator.dataplane.steps.validate import Validate

_BY_ROW: Mapping[type[Any], Callable[[Any, pa.Schema, Setting], RowStage | ManyStage]] = {
    SelectStep: Select,
    DropStep: Drop,
    RenameStep: Rename,
    CastStep: Cast,
    DeriveStep: Derive,
    FilterStep: Filter,
    ValidateStep: Validate,
    MaskStep: Mask,
    FlattenStep: Flatten,
    ExplodeStep: Explode,
}
_BY_SET: Mapping[type[Any], Callable[[Any, pa.Schema, Setting, Mapping[str, pa.Schema]], SetStage]] = {
    DedupeStep: Dedupe,
    JoinStep: Join,
    AggregateStep: Aggregate,
    SqlStep: Sql,
    PythonStep: Python,
}


def build(
    step: Step, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]
) -> RowStage | ManyStage | SetStage:
    """Bind a step to the rows that will reach it; `inputs` are the transformation's, the flow first."""
    kind = type(step)
    if kind in _BY_SET:
        return _BY_SET[kind](step, schema, setting, inputs)
    return _BY_ROW[kind](step, schema, setting)
