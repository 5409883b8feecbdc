"""From a step's definition to the step at work: the table of kinds."""

from collections.abc import Mapping

import pyarrow as pa

from dataaggregator.contracts.steps import (
    AggregateStep,
    CastStep,
    DedupeStep,
    DeriveStep,
    DropStep,
    FilterStep,
    JoinStep,
    RenameStep,
    SelectStep,
    SqlStep,
    Step,
    ValidateStep,
)
from dataaggregator.dataplane.steps.aggregate import Aggregate
from dataaggregator.dataplane.steps.base import RowStage, SetStage, Setting
from dataaggregator.dataplane.steps.cast import Cast
from dataaggregator.dataplane.steps.dedupe import Dedupe
from dataaggregator.dataplane.steps.derive import Derive
from dataaggregator.dataplane.steps.drop import Drop
from dataaggregator.dataplane.steps.filter import Filter
from dataaggregator.dataplane.steps.join import Join
from dataaggregator.dataplane.steps.rename import Rename
from dataaggregator.dataplane.steps.select import Select
from dataaggregator.dataplane.steps.sql import Sql
from dataaggregator.dataplane.steps.validate import Validate


def build(step: Step, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]) -> RowStage | SetStage:
    """Bind a step to the rows that will reach it; `inputs` are the transformation's, the flow first."""
    match step:
        case SelectStep():
            return Select(step, schema, setting)
        case DropStep():
            return Drop(step, schema, setting)
        case RenameStep():
            return Rename(step, schema, setting)
        case CastStep():
            return Cast(step, schema, setting)
        case DeriveStep():
            return Derive(step, schema, setting)
        case FilterStep():
            return Filter(step, schema, setting)
        case ValidateStep():
            return Validate(step, schema, setting)
        case DedupeStep():
            return Dedupe(step, schema, setting, inputs)
        case JoinStep():
            return Join(step, schema, setting, inputs)
        case AggregateStep():
            return Aggregate(step, schema, setting, inputs)
        case SqlStep():
            return Sql(step, schema, setting, inputs)
