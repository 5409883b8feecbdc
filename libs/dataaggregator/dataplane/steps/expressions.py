"""SQL expressions over a row: bound once, checked in the engine's own reading, evaluated a batch at a time."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.compile.parameters import bind
from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import Setting, array
from dataaggregator.dataplane.steps.engine import ROWS, Place
from dataaggregator.dataplane.steps.guard import check_expression
from dataaggregator.dataplane.steps.names import one_name_each
from dataaggregator.dataplane.steps.types import Column
from dataaggregator.dataplane.steps.widening import opening, widened
from dataaggregator.errors import Invalid

_OPEN = "SELECT (\n"


class Expressions:
    """Several expressions, each with the path of its text; `types` are what they give."""

    def __init__(self, setting: Setting, schema: pa.Schema, texts: Sequence[tuple[str, str]]) -> None:
        self._setting = setting
        self._values: dict[str, Any] = {}
        self.types: list[pa.DataType] = []
        self._parts: list[tuple[str, dict[str, Any], Place]] = []
        one_name_each(schema, setting.place())
        for at, (path, text) in enumerate(texts):
            bound = bind(text, at)
            values = bound.values(setting.parameters)
            place = setting.place(path, before=_OPEN, text=text)
            check_expression(setting.engine, f"{_OPEN}{bound.sql}\n)", place)
            with setting.engine.over(schema):
                value, kind = widened(setting.engine, f"(\n{bound.sql}\n)", f" FROM {ROWS}", values, place)
            self.types.append(kind)
            self._values |= values
            part = f"SELECT {value} AS x{at}"
            self._parts.append((part, values, setting.place(path, before=opening(part), text=text)))
        columns = (part.removeprefix("SELECT ") for part, _, _ in self._parts)
        self._sql = f"SELECT {', '.join(columns)} FROM {ROWS}"

    def evaluate(self, rows: pa.RecordBatch) -> list[Column]:
        """The values of each expression, in the order of the rows."""
        engine, place = self._setting.engine, self._setting.place()
        try:
            answer = engine.evaluate(rows, self._sql, self._values, place)
        except Invalid:
            for part, values, own in self._parts:  # the first that fails by itself tells its place
                engine.evaluate(rows, f"{part} FROM {ROWS}", values, own)
            raise
        return [array(types.plain_bool(column)) for column in answer.columns]
