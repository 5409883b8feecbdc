"""validate: hold each row against rules. Law: read = written + rejected, each by the first rule it fails.

A SQL check passes when it is true: null is not known to be right and does not pass. The checks in, range and regex
let null pass (not_null is the check for that); unique looks at the rows of this run and keeps the first.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import Check, Rule, ValidateStep
from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting, array
from dataaggregator.dataplane.steps.engine import ROWS, quote
from dataaggregator.dataplane.steps.expressions import Expressions
from dataaggregator.dataplane.steps.filter import boolean
from dataaggregator.dataplane.steps.names import exact, known, one_name_each
from dataaggregator.dataplane.steps.types import Column
from dataaggregator.dataplane.steps.unique import Unique


@dataclass(frozen=True, slots=True)
class _Row:
    """A rule that looks at one row: its place among the conditions."""

    rule: Rule
    reason: str
    judge: Unique | None = None


class Validate(RowStage):
    """All conditions in one statement a batch; `unique` over the rows the rules before it let pass."""

    kind = "validate"

    def __init__(self, step: ValidateStep, schema: pa.Schema, setting: Setting) -> None:
        one_name_each(schema, setting.place("validate"))
        self._types = setting.engine.types_of(schema)
        self._values: dict[str, Any] = {}
        self._conditions: list[str] = []
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
                self._conditions.append(self._condition(rule.check, setting))
            self._rules.append(_Row(rule, _reason(rule.check), judge))
        self._expressions = Expressions(setting, schema, texts) if texts else None
        for (path, _), kind in zip(texts, self._expressions.types if self._expressions else (), strict=True):
            boolean(kind, setting, path)
        self._sql = f"SELECT {', '.join(self._conditions)} FROM {ROWS}"
        if self._conditions:
            with setting.engine.over(schema):
                setting.engine.bind(self._sql, self._values, setting.place("validate"))
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
            raise self.setting.place("validate").invalid(
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
        if self._conditions:
            named = [row.rule for row in self._rules if row.rule.check.sql is None and row.judge is None]
            table = self.setting.engine.evaluate(rows, self._sql, self._values, self.setting.place("validate"))
            for rule, column in zip(named, table.columns, strict=True):
                found[rule.rule] = array(types.plain_bool(column)).fill_null(False)
        return found

    def _value(self, value: Any, field: str, setting: Setting) -> str:
        """A bound value; text beside a field of another type is read as that type."""
        name = f"c{len(self._values)}"
        self._values[name] = value
        kind = self._types[field]
        if not isinstance(value, str) or kind == "VARCHAR":
            return f"${name}"
        sql = f"CAST(${name} AS {kind})"
        setting.engine.constant(sql, {name: value}, setting.place("validate"))  # wrong values fail here
        return sql

    def _condition(self, check: Check, setting: Setting) -> str:
        if check.not_null is not None:
            sql = " AND ".join(f"{quote(name)} IS NOT NULL" for name in check.not_null)
        elif check.in_ is not None:
            values = ", ".join(self._value(value, check.in_.field, setting) for value in check.in_.values)
            sql = f"{quote(check.in_.field)} IS NULL OR {quote(check.in_.field)} IN ({values})"
        elif check.range is not None:
            field = check.range.field
            ends = [(">=", check.range.min), ("<=", check.range.max)]
            sides = [
                f"{quote(field)} {sign} {self._value(end, field, setting)}" for sign, end in ends if end is not None
            ]
            sql = f"{quote(field)} IS NULL OR ({' AND '.join(sides)})"
        elif check.regex is not None:
            self._values[pattern := f"c{len(self._values)}"] = check.regex.pattern
            field = quote(check.regex.field)
            sql = f"{field} IS NULL OR regexp_full_match(CAST({field} AS VARCHAR), ${pattern})"
        else:
            raise AssertionError("a check has exactly one kind")
        return f"({sql}) AS k{len(self._conditions)}"


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
