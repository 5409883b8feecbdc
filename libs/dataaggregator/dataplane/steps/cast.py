"""cast: change the types of fields without changing a value. Law: read = written + rejected.

A value that the new type cannot hold exactly (rounding, overflow, a time of day that would be lost) is an error of
that value; only casts to floating point take the nearest value, since that is what those types are.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import Cast as OneCast
from dataaggregator.contracts.steps import CastStep
from dataaggregator.dataplane.compile.types import engine_type
from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting, array
from dataaggregator.dataplane.steps.engine import ROWS, quote
from dataaggregator.dataplane.steps.exactness import exact
from dataaggregator.dataplane.steps.names import exact as exact_fields
from dataaggregator.dataplane.steps.names import known, one_name_each, position
from dataaggregator.dataplane.steps.types import Column

#: What the engine calls them.
UNSIGNED = frozenset({"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})


@dataclass(frozen=True, slots=True)
class _Target:
    field: str
    word: str
    on_error: str
    kind: pa.DataType


class Cast(RowStage):
    """Casts and their exactness are judged by the engine, a batch at a time."""

    kind = "cast"

    def __init__(self, step: CastStep, schema: pa.Schema, setting: Setting) -> None:
        place = setting.place("cast")
        known(step.cast, schema, place)
        exact_fields(step.cast, schema, place)
        one_name_each(schema, place)
        self._sources = setting.engine.types_of(schema)
        self._targets: list[_Target] = []
        self._parts: list[str] = []
        for name, cast in step.cast.items():
            kind = self._add(name, cast, schema, setting)
            self._targets.append(_Target(name, cast.type, cast.on_error, kind))
        for target in self._targets:
            schema = schema.set(position(schema, target.field), pa.field(target.field, target.kind))
        self._sql = f"SELECT {', '.join(self._parts)} FROM {ROWS}"
        super().__init__(setting, schema)

    def _add(self, name: str, cast: OneCast, schema: pa.Schema, setting: Setting) -> pa.DataType:
        """Put the value and its judgement into the statement; gives the new type."""
        place = setting.place(f"cast.{name}")
        try:
            target = engine_type(cast.type)
        except ValueError as error:
            raise place.invalid("definition-invalid", str(error)) from error
        field = quote(name)
        value = f"TRY_CAST({field} AS {target})"
        if target in UNSIGNED and self._sources[name] == "VARCHAR":
            # The engine takes "-0" for an unsigned number, and "-0.0" for none.
            value = f"coalesce({value}, TRY_CAST(TRY_CAST({field} AS HUGEINT) AS {target}))"
        keeps = exact(field, value, self._sources[name], target)
        bad = f"({field} IS NOT NULL AND NOT coalesce({keeps}, false))"
        at = len(self._targets)
        pair = [f"CASE WHEN {bad} THEN NULL ELSE {value} END AS v{at}", f"{bad} AS b{at}"]
        self._parts += pair
        with setting.engine.over(schema):
            answer = setting.engine.bind(f"SELECT {', '.join(pair)} FROM {ROWS}", {}, place)
        kind: pa.DataType = answer.field(0).type
        return kind

    def change(self, flow: Flow, outlet: Outlet) -> Flow:
        answer = self.setting.engine.evaluate(flow.rows, self._sql, {}, self.setting.place("cast"))
        columns = dict(zip(flow.rows.schema.names, flow.rows.columns, strict=True))
        alive = pa.repeat(pa.scalar(True), flow.rows.num_rows)
        for at, target in enumerate(self._targets):
            columns[target.field] = array(types.plain_bool(answer.column(2 * at)))
            bad = array(types.plain_bool(answer.column(2 * at + 1)))
            alive = self._judge(target, bad, alive, flow, outlet)
        rows = pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)
        return flow.with_rows(rows).keep(alive)

    def _judge(self, target: _Target, bad: Column, alive: Column, flow: Flow, outlet: Outlet) -> Column:
        failing: Column = pc.and_(bad, alive)
        count = failing.true_count
        if not count or target.on_error == "null":
            return alive
        reason = f"{target.field} cannot become {target.word} without changing the value"
        if target.on_error == "fail":
            raise self.setting.place(f"cast.{target.field}").invalid(
                "cast-failed", f"{reason} ({count} rows of a batch); on_error: reject would set such rows aside"
            )
        self.reject(flow, failing, f"{target.field}: {target.word}", reason, outlet)
        return pc.and_(alive, pc.invert(bad))
