"""unique: which rows carry a key that came before, in this batch or an earlier one; keys are kept in the engine."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.base import Setting, array
from dataaggregator.dataplane.steps.engine import ROWS
from dataaggregator.dataplane.steps.types import Column

_ALIVE = "alive_or_not"
_PLACE = "place_in_batch"


class Unique:
    """A key with a null in it equals no other."""

    def __init__(self, setting: Setting, schema: pa.Schema, fields: Sequence[str]) -> None:
        self._setting = setting
        self._fields = list(fields)
        keys = pa.schema([pa.field(f"k{at}", schema.field(name).type) for at, name in enumerate(fields)])
        self._kept = setting.engine.table(keys)
        same = " AND ".join(f"s.k{at} = r.k{at}" for at in range(len(keys)))
        whole = " AND ".join(f"k{at} IS NOT NULL" for at in range(len(keys)))
        partition = ", ".join(f"k{at}" for at in range(len(keys)))
        self._first = (
            f"SELECT {_PLACE}, {partition} FROM (SELECT *, row_number() OVER (PARTITION BY {partition} "
            f"ORDER BY {_PLACE}) AS turn FROM {ROWS} WHERE {_ALIVE} AND {whole}) r "
            f"WHERE turn = 1 AND NOT EXISTS (FROM {self._kept} s WHERE {same})"
        )
        self._whole = whole

    def passes(self, rows: pa.RecordBatch, alive: Column) -> Column:
        """Where a row is the first with its key, or its key has a null; remembers the keys."""
        engine, place = self._setting.engine, self._setting.place("validate")
        columns = {f"k{at}": rows.column(name) for at, name in enumerate(self._fields)}
        columns |= {_ALIVE: alive, _PLACE: pa.array(range(rows.num_rows), pa.int64())}
        keys = pa.RecordBatch.from_pydict(columns)
        firsts = engine.evaluate(keys, self._first, {}, place)
        kept = firsts.drop_columns([_PLACE]).combine_chunks().to_batches()
        for batch in kept:
            engine.append(
                self._kept,
                pa.RecordBatch.from_arrays(
                    [types.restore(c, keys.schema.field(f"k{at}").type) for at, c in enumerate(batch.columns)],
                    names=batch.schema.names,
                ),
                place,
            )
        nulls = pc.is_null(columns["k0"])
        for at in range(1, len(self._fields)):
            nulls = pc.or_(nulls, pc.is_null(columns[f"k{at}"]))
        first = pc.is_in(columns[_PLACE], value_set=array(firsts.column(_PLACE)))
        return pc.or_(first, nulls)
