"""Which rows hold a value that their column cannot keep as it is: each found, and said why."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.dataplane.deletes import DELETE_MARK
from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.encode import encoder_for, probe
from dataaggregator_connectors.postgres.fit import Fit, fits
from dataaggregator_connectors.postgres.types import Column

Array: TypeAlias = "pa.Array[Any]"


def unfit_rows(rows: pa.RecordBatch, columns: Sequence[Column]) -> dict[int, str]:
    """By place, the first reason. What only the server can judge (a check, the text of an enum) is not here."""
    found: dict[int, str] = {}
    as_text = encoder_for(rows.schema, columns).format == "text"
    for array, field, column in zip(rows.columns, rows.schema, columns, strict=True):
        if column.not_null and array.null_count:
            found = dict.fromkeys(_missing(rows, array), f'column "{column.name}" is NOT NULL') | found
        for place, why in _unfit(array, 0, fits(field, column), as_text=as_text):
            found.setdefault(place, why)
    return found


def _missing(rows: pa.RecordBatch, array: Array) -> list[int]:
    """The rows without a value here, but for those that only say which key is to go."""
    empty: Any = array.is_null()
    if DELETE_MARK in rows.schema.names:
        empty = pc.and_not(empty, rows.column(DELETE_MARK))
    places: list[int] = pc.indices_nonzero(empty).to_pylist()
    return places


def _unfit(array: Array, start: int, fit: Fit, *, as_text: bool) -> list[tuple[int, str]]:
    """Halved until what does not fit stands alone: quick when it is little."""
    try:
        probe(array, fit, as_text=as_text)
    except Invalid as error:
        if len(array) == 1:
            return [(start, error.detail)]
        middle = len(array) // 2
        left = _unfit(array[:middle], start, fit, as_text=as_text)
        return left + _unfit(array[middle:], start + middle, fit, as_text=as_text)
    return []
