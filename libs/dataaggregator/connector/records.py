"""Records of JSON documents as batches: their schema by stated rules, and each row that does not fit it rejected."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataaggregator.connector.fitting import fit_values
from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch, Cursor, RejectedRow

SAMPLE_ROWS = 20_000
LARGEST_BIGINT, LARGEST_EXACT = 2**63 - 1, 2**53


def infer_schema(rows: Iterable[Mapping[str, Any]], given: Mapping[str, str] | None = None) -> pa.Schema:
    """Every field of the sample in order of appearance, with the type given, or the one all its values have.

    Whole numbers are bigint, numbers double, true and false boolean, strings text, objects, lists and mixtures
    json; a field that is always null is text. Numbers a double cannot hold exactly make their field json.
    """
    wished = parse_schema(given or {})
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).add(_kind(value))
    types = {name: wished.get(name) or _type(found) for name, found in kinds.items()}
    return pa.schema(
        [pa.field(name, type_) for name, type_ in (wished | types if not types else types | wished).items()]
    )


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "bigint" if abs(value) <= LARGEST_EXACT else "long" if abs(value) <= LARGEST_BIGINT else "json"
        case float():
            return "double"
        case str():
            return "text"
        case _:
            return "json"


def _type(kinds: set[str]) -> pa.DataType:
    found = kinds - {"null"}
    if not found or found == {"text"}:
        return pa.string()
    if found == {"boolean"}:
        return pa.bool_()
    if found <= {"bigint", "long"}:
        return pa.int64()
    return pa.float64() if found <= {"bigint", "double"} else pa.json_(pa.string())


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read as one: its text and why."""

    text: str
    reason: str


class Shaper:
    """Turns rows into batches of one schema; `projected` says that fields outside of it were left out on purpose.

    A text is read as another type only in fields that were `given` one: "007" among inferred numbers is no number.
    """

    def __init__(self, schema: pa.Schema, *, projected: bool = False, given: Collection[str] = ()) -> None:
        self.schema = schema
        self._given = frozenset(given)
        self._known = None if projected else frozenset(schema.names)

    def batch(
        self,
        rows: Sequence[Any],
        position: Callable[[int], str],
        *,
        cursor: Cursor | None = None,
    ) -> Batch:
        """The rows that fit; the others, broken ones too, are rejected, each with its `position`."""
        refused: dict[int, str] = {}
        columns = self._columns_of_whole(rows)
        if columns is None:
            whole = rows
            if not self._knows(rows):
                refused = {place: said for place, row in enumerate(rows) if (said := self._unknown(row)) is not None}
                whole = [row if place not in refused else {} for place, row in enumerate(rows)]
            columns = ([row.get(name) for row in whole] for name in self.schema.names)
        arrays = []
        for field, values in zip(self.schema, columns, strict=True):
            array, reasons = fit_values(values, field.type, from_texts=field.name in self._given)
            arrays.append(array)
            for place, reason in reasons.items():
                refused.setdefault(place, f"{field.name}: {reason}")
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if refused:
            batch = batch.filter(pa.array([place not in refused for place in range(len(rows))], pa.bool_()))
        rejected = [_rejected(rows[place], position(place), refused[place]) for place in sorted(refused)]
        return Batch(rows=batch, read=len(rows), cursor=cursor, rejected=rejected)

    def _columns_of_whole(self, rows: Sequence[Any]) -> Iterable[Sequence[Any]] | None:
        """The values by name where each row is an object with all fields and no unknown one: as mostly all are, and
        what costs least to find out. Else None."""
        names = self.schema.names
        if not set(map(type, rows)) <= {dict}:
            return None
        if self._known is not None and not set(map(len, rows)) <= {len(names)}:
            return None
        try:
            return [[row[name] for row in rows] for name in names]
        except KeyError:
            return None

    def _knows(self, rows: Sequence[Any]) -> bool:
        """Whether all are objects without unknown fields: what costs least to ask, and mostly is so."""
        if any(type(row) is not dict for row in rows):
            return False
        return self._known is None or all(map(self._known.issuperset, rows))

    def _unknown(self, row: Any) -> str | None:
        if not isinstance(row, dict):
            return row.reason if isinstance(row, Broken) else f"{type(row).__name__} instead of an object"
        if self._known is None or row.keys() <= self._known:
            return None
        return f"{', '.join(sorted(row.keys() - self._known))}: not in the schema; give the field's type with `schema`"


def _rejected(row: Any, position: str, reason: str) -> RejectedRow:
    if isinstance(row, Broken):
        return RejectedRow(position, reason, "row-malformed", row.text)
    return RejectedRow(position, reason, "row-unfit", row if isinstance(row, dict) else str(row))
