"""keep: new rows take the place of kept ones by key, or them away. Law: both inputs = kept + duplicates + deleted."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import Dedupe as ByKey
from dataaggregator.contracts.steps import DedupeStep
from dataaggregator.dataplane.deletes import check_mark, count, marks
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.dedupe import Dedupe
from dataaggregator.errors import Permanent

BEFORE_ALL_NEW = -(1 << 62)


class Keep(Dedupe):
    """A dedupe that keeps the last: the kept rows have places before every new one."""

    kind = "keep"

    def __init__(
        self, key: Sequence[str], delete_when: str | None, schema: pa.Schema, setting: Setting,
        inputs: Mapping[str, pa.Schema],
    ) -> None:  # fmt: skip
        new, kept = inputs
        step = DedupeStep(dedupe=ByKey(key=tuple(key), keep="last"))
        super().__init__(step, schema, setting, {new: inputs[new]})
        self._key, self._delete_when = key, delete_when
        if delete_when is not None:
            check_mark(schema, delete_when)
            self.tally.marked = self.tally.deleted = 0
        self.inputs = inputs
        self._open(kept, BEFORE_ALL_NEW)

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        for field in self._key:
            if empty := rows.column(field).null_count:
                raise Permanent(
                    "merge-key-null", f"{empty} rows of {name} have no value in {field}, their primary_key."
                )
        if self._delete_when is not None:
            self.tally.marked = (self.tally.marked or 0) + count(marks(rows, self._delete_when))
        super().take(name, rows)

    def give(self) -> Iterator[pa.RecordBatch]:
        for rows in super().give():
            yield rows if self._delete_when is None else self._left(rows, self._delete_when)

    def _left(self, rows: pa.RecordBatch, field: str) -> pa.RecordBatch:
        """Those of the last rows of their keys that do not say that theirs is to go."""
        gone, tally = marks(rows, field), self.tally
        deleted = count(gone)
        tally.deleted = (tally.deleted or 0) + deleted
        tally.kept = (tally.kept or 0) - deleted
        tally.written -= deleted
        return rows.filter(pc.invert(gone))
