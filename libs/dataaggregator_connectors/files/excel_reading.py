"""Workbooks: a sheet's rows with the values it shows; what a reader would take for an empty cell is found first."""

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, SheetTypeEnum

from dataaggregator.connector.documents import plain_text
from dataaggregator.connector.fitting import fit_values
from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch, RejectedRow, portion
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import ExcelOptions
from dataaggregator_connectors.files.tree import File
from dataaggregator_connectors.files.workbook import Cells, Merge, cells_of, check_parts, letters

LARGEST_EXACT = 2**53
KINDS: dict[frozenset[str], pa.DataType] = {
    frozenset(): pa.string(),
    frozenset({"text"}): pa.string(),
    frozenset({"boolean"}): pa.bool_(),
    frozenset({"whole"}): pa.int64(),
    frozenset({"number"}): pa.float64(),
    frozenset({"whole", "number"}): pa.float64(),
    frozenset({"day"}): pa.date32(),
    frozenset({"moment"}): pa.timestamp("us"),
    frozenset({"day", "moment"}): pa.timestamp("us"),
    frozenset({"time"}): pa.time64("us"),
}


def sheet_names(file: File) -> Sequence[str]:
    """The sheets that hold cells, of a workbook that is whole; charts and macros hold none."""
    check_parts(file)
    with _workbook(file) as book:
        return [sheet.name for sheet in book.sheets_metadata if sheet.typ is SheetTypeEnum.WorkSheet]


def _workbook(file: File) -> CalamineWorkbook:
    try:
        if file.path is not None:
            return CalamineWorkbook.from_path(str(file.path))
        with file.opening() as raw:
            return CalamineWorkbook.from_filelike(raw)
    except (CalamineError, OSError) as error:
        raise Invalid("file-malformed", f"{file.name}: {error}") from error


class Sheet:
    """One sheet of a workbook: the first row with anything in it is the header, and the data stands below."""

    def __init__(self, file: File, sheet: str | None, options: ExcelOptions) -> None:
        self._file, self._options = file, options
        self.name = f"{file.name}#{sheet}" if sheet else file.name
        self._sheet = self._chosen(sheet)
        self._left = 0

    def _chosen(self, wanted: str | None) -> str:
        names = sheet_names(self._file)
        if wanted is not None and wanted not in names:
            raise Invalid("stream-missing", f"{self._file.name} has no sheet {wanted!r}; there are {', '.join(names)}.")
        if wanted is None and len(names) != 1:
            told = ", ".join(f"{self._file.name}#{name}" for name in names) or "no sheet at all"
            raise Invalid("stream-invalid", f"{self._file.name} has several sheets; name one: {told}.")
        return wanted or names[0]

    @cached_property
    def _cells(self) -> Cells:
        return cells_of(self._file, self._sheet)

    def _load(self) -> CalamineSheet:
        """Anew for each reading: of many workbooks one is held."""
        self._cells.check(self.name)
        try:
            with _workbook(self._file) as book:
                return book.get_sheet_by_name(self._sheet)
        except CalamineError as error:
            raise Invalid("file-malformed", f"{self.name}: {error}") from error

    @cached_property
    def columns(self) -> tuple[str, ...]:
        number, row = next(self._rows(), (1, []))
        if not self._options.header:
            return tuple(f"column_{place + 1}" for place in range(len(row)))
        filled = [place for place, value in enumerate(row) if value is not None]
        names = row[: filled[-1] + 1] if filled else []
        if wrong := [
            f"{self._letters(place)}{number}" for place, name in enumerate(names) if not isinstance(name, str)
        ]:
            raise Invalid(
                "file-malformed",
                f"{self.name}: {', '.join(wrong[:10])} should be the text that names a column; "
                "`excel.header: false` reads a sheet without a header.",
            )
        if len(set(names)) != len(names):
            raise Invalid("file-malformed", f"{self.name}: the header in row {number} has a column twice.")
        return tuple(str(name) for name in names)

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Every row that is not empty with its number in the sheet, from the first column that holds anything."""
        held: dict[Merge, Any] = {}
        sheet = self._load()
        self._left = (sheet.start or (0, 0))[1]
        for number, row in enumerate(sheet.iter_rows(), start=1):
            values = [None if value == "" else value for value in row]
            values = self._cells.spread(number - 1, values, held, self._left)
            if number <= self._options.skip_rows:
                continue
            if any(value is not None for value in values) or number in self._cells.errors:
                yield number, values

    def data(self) -> Iterator[tuple[int, list[Any]]]:
        rows = self._rows()
        if self._options.header:
            next(rows, None)
        yield from rows

    def read(self, schema: pa.Schema, most_rows: int, given: Collection[str] = ()) -> Iterator[Batch]:
        rows = self.data()
        while part := portion(rows, most_rows, _size):
            yield self._batch(part, schema, given)

    def _batch(self, part: Sequence[tuple[int, list[Any]]], schema: pa.Schema, given: Collection[str]) -> Batch:
        refused = {place: said for place, (number, row) in enumerate(part) if (said := self._refused(number, row))}
        arrays: list[Any] = []
        for field in schema:
            at = self.columns.index(field.name) if field.name in self.columns else None
            values = [None if at is None or place in refused else _at(row, at) for place, (_, row) in enumerate(part)]
            array, reasons = _fitted(values, field.type, given=field.name in given)
            arrays.append(array)
            refused |= {place: f"{field.name}: {reason}" for place, reason in reasons.items() if place not in refused}
        rows = pa.RecordBatch.from_arrays(arrays, schema=schema)
        rows = rows.filter(pa.array([place not in refused for place in range(len(part))], pa.bool_()))
        rejected = [
            RejectedRow(f"{self.name}:{part[place][0]}", refused[place], "row-unfit", self._shown(part[place][1]))
            for place in sorted(refused)
        ]
        return Batch(rows, len(part), rejected=rejected)

    def _refused(self, number: int, row: Sequence[Any]) -> str | None:
        if errors := self._cells.errors.get(number):
            return f"{', '.join(errors)}: the formula ends in an error"
        if merged := self._cells.across(number - 1):
            return f"{merged}: cells of several columns are merged"
        if beyond := [place for place in range(len(self.columns), len(row)) if row[place] is not None]:
            return f"{self._letters(beyond[0])}{number}: a value beyond the last column of the header"
        return None

    def _letters(self, place: int) -> str:
        return letters(self._left + place)

    def _shown(self, row: Sequence[Any]) -> dict[str, Any]:
        return {name: _plain(_at(row, place)) for place, name in enumerate(self.columns)}


def infer_sheets(sheets: Sequence[Sheet], given: Mapping[str, str]) -> pa.Schema:
    """Every column of every header with the type given, or the one its values have: a sheet is looked through whole.

    Whole numbers are bigint; days are dates, and timestamps where one has a time; mixtures are json.
    """
    wished = parse_schema(given)
    kinds: dict[str, set[str]] = {}
    for sheet in sheets:
        found = [kinds.setdefault(name, set()) for name in sheet.columns]
        for _, row in sheet.data():
            for kind, value in zip(found, row, strict=False):
                if value is not None:
                    kind.add(_kind(value))
    if unknown := [name for name in wished if name not in kinds]:
        raise Invalid("column-missing", f"`schema` names {', '.join(unknown)}, which no header has.")
    return pa.schema(
        [
            pa.field(name, wished.get(name) or KINDS.get(frozenset(kind), pa.json_(pa.string())))
            for name, kind in kinds.items()
        ]
    )


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "whole" if float(value).is_integer() and abs(value) <= LARGEST_EXACT else "number"
        case datetime.datetime():
            return "day" if value.time() == datetime.time() else "moment"
        case datetime.date():
            return "day"
        case datetime.time():
            return "time"
        case _:
            return "text"


def _fitted(values: Sequence[Any], wanted: pa.DataType, *, given: bool) -> tuple[Any, dict[int, str]]:
    """Days and moments are made alike first: Arrow would cut a time off a moment without a word."""
    reasons: dict[int, str] = {}
    made = []
    for place, value in enumerate(values):
        fit, reason = _made(value, wanted, as_text=given and pa.types.is_string(wanted))
        made.append(fit)
        if reason is not None:
            reasons[place] = reason
    if pa.types.is_timestamp(wanted) and all(value is None or isinstance(value, datetime.datetime) for value in made):
        array: Any = pa.array(made, pa.timestamp("us")).cast(pa.timestamp("us", tz=wanted.tz))
        return array, reasons
    array, more = fit_values(made, wanted, from_texts=given)
    return array, more | reasons


def _made(value: Any, wanted: pa.DataType, *, as_text: bool) -> tuple[Any, str | None]:
    """The value in the form the type takes, or why it is none of that type."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT:
        value = value if pa.types.is_floating(wanted) else int(value)
    if isinstance(value, bool | int | float):
        return (plain_text(value) if as_text else value), None
    if isinstance(value, datetime.timedelta):
        value = _hours(value)
    if isinstance(value, datetime.date):
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime.combine(value, datetime.time())
        if pa.types.is_timestamp(wanted):
            return moment, None
        if pa.types.is_date(wanted):
            whole = moment.time() == datetime.time()
            return (moment.date(), None) if whole else (None, f"{moment.isoformat()} is more than a day")
        return value.isoformat(), None
    if isinstance(value, datetime.time) and not pa.types.is_time(wanted):
        return value.isoformat(), None
    return value, None


def _hours(value: datetime.timedelta) -> str:
    """A length of time as the sheet shows it: 36:00:00."""
    minutes, seconds = divmod(value.total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:06.3f}".removesuffix(".000")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def _at(row: Sequence[Any], place: int) -> Any:
    return row[place] if place < len(row) else None


def _size(numbered: tuple[int, list[Any]]) -> int:
    return sum(len(value) if isinstance(value, str) else 8 for value in numbered[1])
