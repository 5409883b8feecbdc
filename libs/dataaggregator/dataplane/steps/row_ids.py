"""row ids: each row that goes into a step without a law carries a number, and those that come out are counted by it.

read = kept + filtered, written = kept + doubled + invented: a number that came back once was kept, each further time is
a doubled row, one that never went in (or none) an invented one.
"""

import pyarrow as pa

from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.dataplane.steps.fitting import CODE
from dataaggregator.dataplane.steps.names import position
from dataaggregator.dataplane.steps.types import Column

ROW_ID = "row_id"


class CameBack:
    """The numbers of rows that came out, kept in the engine, which spills."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self._engine = engine
        self._place = place
        self._table = engine.table(pa.schema([(ROW_ID, pa.int64())]))

    def add(self, numbers: Column) -> None:
        self._engine.append(self._table, pa.RecordBatch.from_arrays([numbers], names=[ROW_ID]), self._place)

    def count(self, read: int) -> tuple[int, int, int]:
        """Rows kept, doubled and invented of so many that went in; gives the memory of the numbers back."""
        known = f"{ROW_ID} >= 0 AND {ROW_ID} < {read}"
        (total,) = self._engine.row(f"SELECT count(*) FROM {self._table}", self._place)
        kept, back = self._engine.row(
            f"SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM "
            f"(SELECT count(*) AS n FROM {self._table} WHERE {known} GROUP BY {ROW_ID})",
            self._place,
        )
        self._engine.drop(self._table)
        return kept, back - kept, total - back


class RowIds:
    """Numbers rows on their way in, and takes the numbers off those that come out."""

    def __init__(self, setting: Setting, schema: pa.Schema) -> None:
        self._place = setting.place("row_ids")
        if ROW_ID in schema.names:
            message = f"there is a field {ROW_ID} already, where the number of each row was to stand; rename it before"
            raise self._place.invalid("definition-invalid", message)
        self.schema = schema.append(pa.field(ROW_ID, pa.int64()))
        self._came_back = CameBack(setting.engine, self._place)
        self._read = 0

    def numbered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with their numbers."""
        numbers = pa.array(range(self._read, self._read + rows.num_rows), pa.int64())
        self._read += rows.num_rows
        return rows.append_column(ROW_ID, numbers)

    def take_off(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows without their numbers, which are kept."""
        self._came_back.add(self._column(rows))
        return rows.drop_columns([ROW_ID])

    def _column(self, rows: pa.RecordBatch) -> Column:
        column = rows.column(position(rows.schema, ROW_ID))
        if not pa.types.is_integer(column.type) and not pa.types.is_null(column.type):
            raise self._place.invalid(
                CODE, f"{ROW_ID} came back as {column.type}; leave the numbers of rows as they are"
            )
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise self._place.invalid(CODE, f"{ROW_ID} has a number that no row had") from error

    def without(self, schema: pa.Schema) -> pa.Schema:
        """The fields that go on; raises Invalid where the numbers are missing."""
        return without_row_id(schema, self._place)

    def count(self) -> tuple[int, int, int]:
        """Rows kept, doubled and invented; gives the memory of the numbers back."""
        return self._came_back.count(self._read)


def without_row_id(schema: pa.Schema, place: Place) -> pa.Schema:
    """The fields but the number of the row, which must be among them once."""
    if schema.names.count(ROW_ID) != 1:
        message = (
            f"transform gave rows without the field {ROW_ID}: carry it through each change of the table, "
            "and give NULL to rows that are new"
        )
        raise place.invalid(CODE, message)
    return schema.remove(position(schema, ROW_ID))
