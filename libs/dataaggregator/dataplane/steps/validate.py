"""validate: hold each row against rules. Law: read = written + rejected, each by the first rule it fails.

A SQL check passes when it is true: null is not known to be right and does not pass. The checks in, range and regex
let null pass (not_null is the check for that); unique looks at the rows of this run and keeps the first.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import Check, Rule, ValidateStep
from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting, array
from dataaggregator.dataplane.steps.checks import Checks
from dataaggregator.dataplane.steps.expressions import Expressions
from dataaggregator.dataplane.steps.filter import boolean
from dataaggregator.dataplane.steps.names import exact, known, one_name_each
from dataaggregator.dataplane.steps.types import Column
from dataaggregator.dataplane.steps.unique import Unique


@dataclass(frozen=True, slots=True)
class _Row:
    """A rule that looks at one row: its place among the conditions."""

    rule: Rule
    path: str
    reason: str
    judge: Unique | None = None


class Validate(RowStage):
    """All conditions in one statement a batch; `unique` over the rows the rules before it let pass."""

    kind = "validate"

    def __init__(self, step: ValidateStep, schema: pa.Schema, setting: Setting) -> None:
        one_name_each(schema, setting.place("validate"))
        self._checks = Checks(setting, schema)
        self._rules: list[_Row] = []
        texts = []
        for at, rule in enumerate(step.rules):
            path = f"validate[{at}].check"
            place = setting.place(path)
            fields = _fields(rule.check)
            known(fields, schema, place)
            exact(fields, schema, place)
            judge = Unique(setting, schema, rule.check.unique) if rule.check.unique else None
            if rule.check.sql is not None:
                texts.append((path, rule.check.sql))
            elif judge is None:
                self._checks.add(rule.check, place)
            self._rules.append(_Row(rule, path, _reason(rule.check), judge))
        self._expressions = Expressions(setting, schema, texts) if texts else None
        for (path, _), kind in zip(texts, self._expressions.types if self._expressions else (), strict=True):
            boolean(kind, setting, path)
        super().__init__(setting, schema)

    def change(self, flow: Flow, outlet: Outlet) -> Flow:
        answers = self._answers(flow.rows)
        alive = pa.repeat(pa.scalar(True), flow.rows.num_rows)
        for row in self._rules:
            passes = row.judge.passes(flow.rows, alive) if row.judge else answers[row.rule.rule]
            failing = pc.and_(alive, pc.invert(passes))
            if failing.true_count:
                alive = self._judge(row, failing, alive, flow, outlet)
        return flow.keep(alive)

    def _judge(self, row: _Row, failing: Column, alive: Column, flow: Flow, outlet: Outlet) -> Column:
        rule, count = row.rule, failing.true_count
        if rule.on_fail == "warn":
            self.tally.warned[rule.rule] += count
            return alive
        if rule.on_fail == "fail":
            raise self.setting.place(row.path).invalid(
                "validation-failed", f"{count} rows of a batch fail the rule {rule.rule}: {row.reason}"
            )
        self.reject(flow, failing, rule.rule, row.reason, outlet)
        return pc.and_(alive, pc.invert(failing))

    def _answers(self, rows: pa.RecordBatch) -> dict[str, Column]:
        """For each rule that looks at one row: where it passes."""
        written = [row.rule for row in self._rules if row.rule.check.sql is not None]
        answers = self._expressions.evaluate(rows) if self._expressions else []
        found = {
            rule.rule: answer.cast(pa.bool_()).fill_null(False) for rule, answer in zip(written, answers, strict=True)
        }
        if self._checks.sql:
            named = [row.rule for row in self._rules if row.rule.check.sql is None and row.judge is None]
            checks = self._checks
            table = self.setting.engine.evaluate(rows, checks.sql, checks.values, self.setting.place("validate"))
            for rule, column in zip(named, table.columns, strict=True):
                found[rule.rule] = array(types.plain_bool(column)).fill_null(False)
        return found


def _fields(check: Check) -> tuple[str, ...]:
    one = check.in_ or check.range or check.regex
    return check.not_null or check.unique or ((one.field,) if one else ())


def _reason(check: Check) -> str:
    if check.sql is not None:
        return f"not true: {check.sql}"
    if check.not_null is not None:
        return f"{', '.join(check.not_null)}: null"
    if check.unique is not None:
        return f"{', '.join(check.unique)}: there was such a row before"
    if check.in_ is not None:
        return f"{check.in_.field}: none of the values allowed"
    if check.range is not None:
        return f"{check.range.field}: outside {check.range.min} to {check.range.max}"
    if check.regex is not None:
        return f"{check.regex.field}: does not match {check.regex.pattern}"
    raise AssertionError("a check has exactly one kind")
