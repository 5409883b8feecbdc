"""keep: new rows take the place of kept ones with the same key. Law: the rows of both inputs = kept + duplicates."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from dataaggregator.contracts.steps import Dedupe as ByKey
from dataaggregator.contracts.steps import DedupeStep
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.dedupe import Dedupe
from dataaggregator.errors import Permanent

BEFORE_ALL_NEW = -(1 << 62)


class Keep(Dedupe):
    """A dedupe that keeps the last: the kept rows have places before every new one."""

    kind = "keep"

    def __init__(
        self, key: Sequence[str], schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]
    ) -> None:
        new, kept = inputs
        step = DedupeStep(dedupe=ByKey(key=tuple(key), keep="last"))
        super().__init__(step, schema, setting, {new: inputs[new]})
        self._key = key
        self.inputs = inputs
        self._open(kept, BEFORE_ALL_NEW)

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        for field in self._key:
            if empty := rows.column(field).null_count:
                raise Permanent(
                    "merge-key-null", f"{empty} rows of {name} have no value in {field}, their primary_key."
                )
        super().take(name, rows)
