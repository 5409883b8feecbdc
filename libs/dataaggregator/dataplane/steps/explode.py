"""explode: a row for each element of a list. Law: written = the lengths of all lists; empty ones counted.

A row whose list is empty or NULL gives no row; an element that is NULL gives one. The other fields are repeated, the
element stands where the list stood. Rows go on in pieces, so that a long list does not make a batch without bounds.
What a later step rejects is set aside as it left here: one element, not the whole list again for each.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import ExplodeStep
from dataaggregator.dataplane.steps.base import Flow, ManyStage, Setting
from dataaggregator.dataplane.steps.engine import BATCH_ROWS
from dataaggregator.dataplane.steps.names import known, position
from dataaggregator.dataplane.steps.types import Column

PIECE_BYTES = 16 << 20
"""About so much of the repeated fields is in one piece."""


class Explode(ManyStage):
    """Elements and rows are brought together by place; types and values are not touched."""

    kind = "explode"

    def __init__(self, step: ExplodeStep, schema: pa.Schema, setting: Setting) -> None:
        name = step.explode.field
        place = setting.place("explode.field")
        known([name], schema, place)
        self._at = position(schema, name)
        kind = schema.field(self._at).type
        if not is_list(kind):
            raise place.invalid("definition-invalid", f"explode takes a list, {name} is {kind}{_cure(name, kind)}")
        super().__init__(setting, schema.set(self._at, pa.field(name, kind.value_type)))
        self.tally.lengths = self.tally.empty = 0

    def give(self, flow: Flow) -> Iterator[Flow]:
        with self.timed():
            rows = flow.rows
            self.tally.batches += 1
            self.tally.read += rows.num_rows
            lists: Column = rows.column(self._at)
            lengths: Column = pc.list_value_length(lists)
            none: Column = pc.equal(lengths.fill_null(0), pa.scalar(0))
            self.tally.lengths = (self.tally.lengths or 0) + (pc.sum(lengths).as_py() or 0)
            self.tally.empty = (self.tally.empty or 0) + none.true_count
            elements, parents = _taken_apart(lists)
        most = _most_rows(rows.remove_column(self._at))
        for start in range(0, len(elements), most):
            with self.timed():
                piece = self._piece(rows, elements.slice(start, most), parents.slice(start, most))
                self.tally.written += piece.num_rows
            yield Flow(piece, piece)

    def _piece(self, rows: pa.RecordBatch, elements: Column, parents: Column) -> pa.RecordBatch:
        columns = [elements if at == self._at else column.take(parents) for at, column in enumerate(rows.columns)]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _taken_apart(lists: Column) -> tuple[Column, Column]:
    """All elements, and the row each is of. Values may stand behind a NULL; they are nobody's."""
    if not lists.null_count:
        return pc.list_flatten(lists), pc.list_parent_indices(lists)
    there = pc.indices_nonzero(lists.is_valid())
    whole = lists.take(there)
    return pc.list_flatten(whole), there.take(pc.list_parent_indices(whole))


def _most_rows(repeated: pa.RecordBatch) -> int:
    """How many rows one piece has, by what a row weighs on average."""
    row_bytes = repeated.nbytes // max(repeated.num_rows, 1) + 1
    return max(1, min(BATCH_ROWS, PIECE_BYTES // row_bytes))


def is_list(kind: pa.DataType) -> bool:
    """Of whatever length, fixed or not."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _cure(name: str, kind: pa.DataType) -> str:
    if isinstance(kind, pa.JsonType):
        return (
            ", whose elements are not known before it is read: say what they are in a derive step before, such as "
            f"{name}: from_json({name}, '[\"JSON\"]')"
        )
    if pa.types.is_map(kind):
        return f"; make one in a derive step before, such as {name}: map_entries({name})"
    return ""
