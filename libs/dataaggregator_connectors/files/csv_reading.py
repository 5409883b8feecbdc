"""CSV: parsed by Arrow in blocks, every value checked against its column's type, broken lines with their number."""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from io import TextIOWrapper
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from dataaggregator.connector.fitting import fit_texts
from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch, RejectedRow, no_rows
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import CsvOptions
from dataaggregator_connectors.files.opening import Opening

BLOCK_BYTES = 4 * 1024 * 1024
SAMPLE_ROWS = 20_000
UNREADABLE = "\ufffd"
"""What stands for bytes that are no text in an encoding."""

# The rules of inference, in order: the first type that every value of the sample fits. Whole numbers with leading
# zeros, and numbers a double would not hold exactly, stay text.
NUMBER = r"^-?(0|[1-9][0-9]*)"
RULES: tuple[tuple[pa.DataType, str], ...] = (
    (pa.int64(), r"^(0|-?[1-9][0-9]*)$"),
    (pa.float64(), NUMBER + r"(\.[0-9]+)?([eE][-+]?[0-9]+)?$"),
    (pa.bool_(), r"(?i)^(true|false)$"),
    (pa.date32(), r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    (pa.timestamp("us"), r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$"),
    (
        pa.timestamp("us", tz="UTC"),
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[-+][0-9]{2}(:?[0-9]{2})?)$",
    ),
)
EXACT_DIGITS = 15

# Longer than any row that Arrow lets pass; Python's own bound is 128 KiB, and for the whole process.
csv.field_size_limit(4 * BLOCK_BYTES)


class CsvFile:
    """One CSV file; opened anew for each reading."""

    def __init__(self, opening: Opening, name: str, options: CsvOptions) -> None:
        self._opening, self._name, self._options = opening, name, options
        # An empty line between others of a single field is that field without a value, as for PostgreSQL's COPY.
        self._single = False
        self.columns = self._read_header()

    def _read_header(self) -> tuple[str, ...]:
        records = self._records()
        try:
            self._first_line, first = next(records, (1, []))
        except (csv.Error, UnicodeError) as error:
            raise Invalid("file-malformed", f"{self._name}:1: {error}") from error
        self._single = len(first) == 1
        names = tuple(first) if self._options.header else tuple(f"column_{n + 1}" for n in range(len(first)))
        if UNREADABLE in "".join(names):
            detail = (
                f"{self._name}:1: the header is not {self._options.encoding}; say in csv.encoding what the file is in"
            )
            raise Invalid("file-malformed", f"{detail}, utf-16 or latin-1 perhaps.")
        if len(set(names)) != len(names) or not all(names):
            raise Invalid("file-malformed", f"{self._name}:1: the header has a column twice or one without a name.")
        return names

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Each record with the line it begins on; blank lines are no records, unless a record is a single field."""
        encoding = (
            "utf-8-sig" if self._options.encoding.lower().replace("_", "-") == "utf-8" else self._options.encoding
        )
        with self._opening() as raw, TextIOWrapper(raw, encoding=encoding, errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=self._options.delimiter, quotechar=self._options.quote)
            line, begun = 1, False
            for record in reader:
                if record or (begun and self._single):
                    yield line, record
                    begun = True
                line = reader.line_num + 1

    def blocks(self, *, rows_only: int | None = None) -> "Iterator[Block]":
        """The file's rows as raw fields, block by block; lines with too many or too few fields stand beside them."""
        if not self.columns:
            return
        ragged: list[Any] = []

        def note(row: Any) -> Literal["skip"]:
            ragged.append(row)
            return "skip"

        options = self._options
        try:
            with (
                self._opening() as raw,
                arrow_csv.open_csv(
                    raw,
                    arrow_csv.ReadOptions(
                        use_threads=False,
                        block_size=BLOCK_BYTES,
                        encoding=options.encoding,
                        skip_rows=self._first_line - 1 if self._single else 0,
                        column_names=None if options.header else list(self.columns),
                    ),
                    arrow_csv.ParseOptions(
                        delimiter=options.delimiter,
                        quote_char=options.quote,
                        newlines_in_values=True,
                        ignore_empty_lines=not self._single,
                        invalid_row_handler=note,
                    ),
                    arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(self.columns, pa.binary()),
                        null_values=list(options.null),
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                    ),
                ) as reader,
            ):
                yield from self._numbered(reader, ragged, rows_only)
        except (pa.ArrowInvalid, UnicodeError) as error:
            if "straddling" in str(error):
                detail = f"{self._name}: a row is longer than {BLOCK_BYTES >> 20} MiB, which are read at once."
                raise Invalid("file-malformed", detail) from error
            if "Empty CSV file" not in str(error):
                raise Invalid("file-malformed", f"{self._name}: {error}") from error

    def _numbered(
        self, reader: Iterable[pa.RecordBatch], ragged: list[Any], rows_only: int | None
    ) -> "Iterator[Block]":
        """Arrow numbers the broken rows only: the others take the numbers between them."""
        number = 2 if self._options.header else 1
        seen = taken = 0
        for batch in reader:
            broken: list[Any] = []
            numbers: Sequence[int] = range(number, number + batch.num_rows)
            if taken < len(ragged) and ragged[taken].number < number + batch.num_rows:
                numbers, broken = _between(ragged[taken:], number, batch.num_rows)
                taken += len(broken)
            number += batch.num_rows + len(broken)
            while taken < len(ragged) and ragged[taken].number == number:
                broken.append(ragged[taken])
                taken, number = taken + 1, number + 1
            yield Block(batch, numbers, broken)
            seen += batch.num_rows
            if rows_only is not None and seen >= rows_only:
                return
        if ragged[taken:]:
            yield Block(None, [], ragged[taken:])

    def lines(self) -> "Lines":
        return Lines(self._records())

    def read(self, schema: pa.Schema, most_rows: int, given: Collection[str] = ()) -> Iterator[Batch]:
        """Batches of one schema; fields that are not `given` must keep to the rule their type was inferred by."""
        lines = self.lines()
        inferred = frozenset(schema.names) - frozenset(given)
        for block in self.blocks():
            lines.next_block(min([*block.numbers[:1], *(row.number for row in block.ragged[:1])], default=0))
            rejected = [
                RejectedRow(f"{self._name}:{lines.of(row.number)}", _ragged(row), "row-ragged", row.text)
                for row in block.ragged
            ]
            if block.rows is None:
                yield Batch(no_rows(schema), len(rejected), rejected=rejected)
                continue
            for start in range(0, block.rows.num_rows, most_rows):
                raw = block.rows.slice(start, most_rows)
                typed, refused = _typed(raw, schema, inferred)
                rejected += self._unfit(raw, refused, block.numbers[start : start + most_rows], lines)
                yield Batch(typed, raw.num_rows + len(rejected) - len(refused), rejected=rejected)
                rejected = []

    def _unfit(
        self, raw: pa.RecordBatch, refused: Mapping[int, str], numbers: Sequence[int], lines: "Lines"
    ) -> list[RejectedRow]:
        found = []
        for place in sorted(refused):
            row = {name: _shown(value) for name, value in raw.slice(place, 1).to_pylist()[0].items()}
            found.append(RejectedRow(f"{self._name}:{lines.of(numbers[place])}", refused[place], "row-unfit", row))
        return found


def _typed(
    raw: pa.RecordBatch, schema: pa.Schema, inferred: Collection[str]
) -> tuple[pa.RecordBatch, Mapping[int, str]]:
    """The rows that fit, and by place why the others do not."""
    refused: dict[int, str] = {}
    arrays = []
    for field in schema:
        if field.name not in raw.schema.names:
            arrays.append(pa.nulls(raw.num_rows, field.type))
            continue
        values = raw.column(field.name)
        array, reasons = fit_texts(values, field.type)
        arrays.append(array)
        if field.name in inferred:
            reasons = off_rule(values, field.type) | reasons
        for place, reason in reasons.items():
            refused.setdefault(place, f"{field.name}: {reason}")
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if refused:
        batch = batch.filter(pa.array([place not in refused for place in range(raw.num_rows)], pa.bool_()))
    return batch, refused


def off_rule(values: Any, type_: pa.DataType) -> dict[int, str]:
    """Behind the sample: texts that would be of the inferred type but be another text in it, such as 007 or 0x10."""
    size: Any = pc.binary_length(values)
    compare: Any = pc
    if type_ == pa.int64():
        odd = pc.or_(pc.and_(pc.starts_with(values, "0"), compare.greater(size, 1)), pc.starts_with(values, "-0"))
    elif type_ == pa.float64():
        ruled: Any = pc.match_substring_regex(values, RULES[1][1])
        odd = pc.or_(pc.invert(ruled), compare.greater(size, EXACT_DIGITS + 1))
    elif type_ == pa.bool_():
        odd = compare.less(size, len("true"))
    else:
        return {}
    found = {}
    for place in pc.indices_nonzero(odd.fill_null(False)).to_pylist():
        text = values[place].as_py().decode(errors="replace")
        if not _same(text, type_):
            found[place] = (
                f"{text[:200]!r} is not written as the {type_} of the rows before; give the type with `schema`"
            )
    return found


def _same(text: str, type_: pa.DataType) -> bool:
    """Whether a text that looks odd keeps to the rule all the same."""
    if type_ != pa.float64() or re.fullmatch(RULES[1][1], text) is None:
        return False
    return Decimal(text) == Decimal(repr(float(text)))


class Block:
    """Rows of one block with their record numbers, and the broken records among them."""

    def __init__(self, rows: pa.RecordBatch | None, numbers: Sequence[int], ragged: Sequence[Any]) -> None:
        self.rows, self.numbers, self.ragged = rows, numbers, ragged


class Lines:
    """Says on which line a record begins; walks the file only when asked, and only once."""

    def __init__(self, records: Iterator[tuple[int, list[str]]]) -> None:
        self._records = enumerate(records, start=1)
        self._passed: dict[int, int] = {}
        self._floor = 0

    def next_block(self, first: int) -> None:
        """Records before this one are not asked for any more."""
        self._floor = first
        self._passed = {number: line for number, line in self._passed.items() if number >= first}

    def of(self, number: int) -> int:
        while number not in self._passed:
            passed, (line, _) = next(self._records)
            if passed >= self._floor:
                self._passed[passed] = line
        return self._passed[number]


def infer_csv(files: Sequence[CsvFile], given: Mapping[str, str] | None) -> pa.Schema:
    """One schema over all files: every column of every header, with the type given or the first rule that fits."""
    wished = parse_schema(given or {})
    samples: dict[str, list[Any]] = {}
    left = SAMPLE_ROWS
    for file in files:
        for name in file.columns:
            samples.setdefault(name, [])
        for block in file.blocks(rows_only=left) if left > 0 else ():
            if block.rows is not None:
                left -= block.rows.num_rows
                for name in file.columns:
                    samples[name].append(block.rows.column(name))
    if unknown := [name for name in wished if name not in samples]:
        raise Invalid("column-missing", f"`schema` names {', '.join(unknown)}, which no header has.")
    return pa.schema([pa.field(name, wished.get(name) or rule(values)) for name, values in samples.items()])


def rule(arrays: Sequence[Any]) -> pa.DataType:
    values: Any = pc.drop_null(pa.chunked_array(arrays, pa.binary())) if arrays else []
    if not len(values):
        return pa.string()
    for type_, pattern in RULES:
        if pc.all(pc.match_substring_regex(values, pattern)).as_py() and _holds(values, type_):
            return type_
    return pa.string()


def _holds(values: Any, type_: pa.DataType) -> bool:
    texts = values.to_pylist()
    if type_ == pa.float64():
        return max(len(re.sub(rb"[eE].*$|[^0-9]", b"", text).lstrip(b"0")) for text in texts) <= EXACT_DIGITS
    return not fit_texts(pa.array(texts, pa.binary()), type_)[1]


def _between(ragged: Sequence[Any], first: int, rows: int) -> tuple[Sequence[int], list[Any]]:
    """The numbers of the whole records among broken ones, and the broken ones that lie between them."""
    broken: list[Any] = []
    numbers: list[int] = []
    number = first
    while len(numbers) < rows:
        if len(broken) < len(ragged) and ragged[len(broken)].number == number:
            broken.append(ragged[len(broken)])
        else:
            numbers.append(number)
        number += 1
    return numbers, broken


def _ragged(row: Any) -> str:
    return f"{row.actual_columns} fields instead of {row.expected_columns}"


def _shown(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
