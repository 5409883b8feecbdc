"""row ids: each row that goes into a step without a law carries a number, and those that come out are counted by it.

read = kept + filtered, written = kept + doubled + invented: a number that came back once was kept, each further time is
a doubled row, one that never went in (or none) an invented one.
"""

import pyarrow as pa

from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.engine import Place
from dataaggregator.dataplane.steps.fitting import CODE
from dataaggregator.dataplane.steps.names import position
from dataaggregator.dataplane.steps.types import Column

ROW_ID = "row_id"


class RowIds:
    """Numbers rows on their way in; keeps the numbers that come out in the engine, which spills."""

    def __init__(self, setting: Setting, schema: pa.Schema) -> None:
        self._setting = setting
        self._place = setting.place("row_ids")
        if ROW_ID in schema.names:
            message = f"there is a field {ROW_ID} already, where the number of each row was to stand; rename it before"
            raise self._place.invalid("definition-invalid", message)
        self.schema = schema.append(pa.field(ROW_ID, pa.int64()))
        self._came_back = setting.engine.table(pa.schema([(ROW_ID, pa.int64())]))
        self._read = 0

    def numbered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with their numbers."""
        numbers = pa.array(range(self._read, self._read + rows.num_rows), pa.int64())
        self._read += rows.num_rows
        return rows.append_column(ROW_ID, numbers)

    def take_off(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows without their numbers, which are kept."""
        column = self._column(rows)
        numbers = pa.RecordBatch.from_arrays([column], names=[ROW_ID])
        self._setting.engine.append(self._came_back, numbers, self._place)
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
            raise self._place.invalid(CODE, f"{ROW_ID} has a number that no row had: {error}") from error

    def without(self, schema: pa.Schema) -> pa.Schema:
        """The fields that go on; raises Invalid where the numbers are missing."""
        return without_row_id(schema, self._place)

    def count(self) -> tuple[int, int, int]:
        """Rows kept, doubled and invented; gives the memory of the numbers back."""
        engine = self._setting.engine
        known = f"{ROW_ID} >= 0 AND {ROW_ID} < {self._read}"
        (total,) = engine.row(f"SELECT count(*) FROM {self._came_back}", self._place)
        kept, back = engine.row(
            f"SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM "
            f"(SELECT count(*) AS n FROM {self._came_back} WHERE {known} GROUP BY {ROW_ID})",
            self._place,
        )
        engine.drop(self._came_back)
        return kept, back - kept, total - back


def without_row_id(schema: pa.Schema, place: Place) -> pa.Schema:
    """The fields but the number of the row, which must be among them once."""
    if schema.names.count(ROW_ID) != 1:
        message = (
            f"transform gave rows without the field {ROW_ID}: carry it through each change of the table, "
            "and give NULL to rows that are new"
        )
        raise place.invalid(CODE, message)
    return schema.remove(position(schema, ROW_ID))
