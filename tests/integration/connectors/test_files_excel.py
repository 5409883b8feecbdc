"""files, Excel: what a sheet shows is what is read, and what cannot be told from an empty cell is not passed over."""

import datetime
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane.batch import RejectedRow
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files import workbook
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.source import FilesSource
from tests.integration.connectors.workbooks import number, text, write_workbook

HEADER = text("A1", "id") + text("B1", "name")


class Books:
    """A folder of workbooks and what is read from it."""

    def __init__(self, folder: Path, context: Context) -> None:
        self.folder, self._context = folder, context

    def write(self, cells: str, *, name: str = "book.xlsx", **more: str) -> None:
        write_workbook(self.folder / name, {"One": cells}, **more)

    def source(self, **config: Any) -> FilesSource:
        return FilesSource(FilesConfig.model_validate({"root": self.folder.as_uri(), **config}), self._context)

    async def read(
        self, stream: str = "book.xlsx", *, schema: dict[str, str] | None = None, **config: Any
    ) -> tuple[list[dict[str, Any]], list[RejectedRow]]:
        rows: list[dict[str, Any]] = []
        rejected: list[RejectedRow] = []
        async for batch in self.source(**config).read(ReadRequest(stream=stream, schema=schema)):
            rows += batch.rows.to_pylist()
            rejected += batch.rejected
            assert batch.read == batch.rows.num_rows + len(batch.rejected)
        return rows, rejected


@pytest.fixture
def books(tmp_path: Path, context: Context) -> Books:
    (tmp_path / "data").mkdir()
    return Books(tmp_path / "data", context)


async def test_dates_times_and_numbers_are_what_the_sheet_shows(books: Books) -> None:
    header = "".join(text(f"{letter}1", letter.lower()) for letter in "ABCDEF")
    books.write(
        header
        + number("A2", "1")
        + number("B2", "45000", 1)
        + number("C2", "45000.5", 2)
        + number("D2", "0.25", 3)
        + number("E2", "1.5", 4)
        + number("F2", "0.5")
        + number("A3", "2")
        + number("C3", "45001", 2)
        + number("F3", "3")
    )
    rows, rejected = await books.read()
    assert rejected == []
    day = datetime.datetime(2023, 3, 15)  # noqa: DTZ001  (a sheet knows no zones)
    assert rows == [
        {
            "a": 1,
            "b": day.date(),
            "c": day.replace(hour=12),
            "d": datetime.time(6),
            "e": "36:00:00",
            "f": 0.5,
        },
        {"a": 2, "b": None, "c": day + datetime.timedelta(days=1), "d": None, "e": None, "f": 3.0},
    ]


async def test_days_count_from_1904_where_the_workbook_says_so(books: Books) -> None:
    books.write(text("A1", "day") + number("A2", "1", 1), properties='<workbookPr date1904="1"/>')
    assert (await books.read())[0] == [{"day": datetime.date(1904, 1, 2)}]


async def test_a_time_in_a_column_of_days_is_not_cut_off(books: Books) -> None:
    books.write(text("A1", "day") + number("A2", "45000", 1) + number("A3", "45000.5", 2))
    rows, rejected = await books.read(schema={"day": "date"})
    assert rows == [{"day": datetime.date(2023, 3, 15)}]
    assert [(each.position, each.code) for each in rejected] == [("book.xlsx:3", "row-unfit")]
    assert "2023-03-15T12:00:00" in rejected[0].reason


async def test_a_formula_that_ends_in_an_error_is_rejected_and_not_read_as_nothing(books: Books) -> None:
    failed = '<c r="B3" t="e"><f>1/0</f><v>#DIV/0!</v></c>'
    books.write(HEADER + number("A2", "1") + text("B2", "a") + number("A3", "2") + failed)
    rows, rejected = await books.read()
    assert rows == [{"id": 1, "name": "a"}]
    assert [(each.position, each.reason) for each in rejected] == [("book.xlsx:3", "B3: the formula ends in an error")]


async def test_a_formula_is_read_by_its_value_and_refused_without_one(books: Books) -> None:
    books.write(HEADER + '<c r="A2"><f>1+1</f><v>2</v></c>' + '<c r="B2" t="str"><f>""</f><v></v></c>')
    assert (await books.read())[0] == [{"id": 2, "name": None}]
    books.write(HEADER + '<c r="A2"><f>1+1</f></c>' + '<c r="B2"><f t="shared" si="0"/></c>')
    with pytest.raises(Invalid, match="formulas in A2, B2 were never calculated"):
        await books.read()


async def test_a_cell_merged_over_rows_stands_in_each_and_one_merged_over_columns_is_rejected(books: Books) -> None:
    cells = HEADER + text("A2", "x") + text("B2", "a") + text("B3", "b") + text("A4", "wide")
    after = '<mergeCells count="2"><mergeCell ref="A2:A3"/><mergeCell ref="A4:B4"/></mergeCells>'
    books.write(cells, after=after)
    rows, rejected = await books.read()
    assert rows == [{"id": "x", "name": "a"}, {"id": "x", "name": "b"}]
    assert [each.reason for each in rejected] == ["A4:B4: cells of several columns are merged"]


async def test_a_merged_cell_keeps_its_column_beside_empty_ones(books: Books) -> None:
    cells = '<c r="A2" s="1"></c>' + text("B1", "id") + text("C1", "name") + text("B2", "x") + text("C3", "a")
    books.write(cells, after='<mergeCells count="1"><mergeCell ref="B2:B3"/></mergeCells>')
    assert (await books.read())[0] == [{"id": "x", "name": None}, {"id": "x", "name": "a"}]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (number("A1", "1") + text("B1", "name"), "A1 should be the text that names a column"),
        (text("A1", "id") + text("C1", "name"), "B1 should be"),
        (text("A1", "id") + text("B1", "id"), "a column twice"),
    ],
)
async def test_a_sheet_without_a_header_is_refused(books: Books, header: str, told: str) -> None:
    books.write(header + number("A2", "2"))
    with pytest.raises(Invalid, match=told):
        await books.read()


async def test_a_sheet_without_a_header_is_read_where_that_is_said(books: Books) -> None:
    books.write(text("A1", "a title") + number("B3", "1") + text("C3", "a"))
    rows, _ = await books.read(excel={"header": False, "skip_rows": 2})
    assert rows == [{"column_1": None, "column_2": 1, "column_3": "a"}]


async def test_a_value_beyond_the_header_is_rejected(books: Books) -> None:
    books.write(HEADER + number("A2", "1") + text("D2", "lost"))
    _, rejected = await books.read()
    assert "D2: a value beyond the last column" in rejected[0].reason


async def test_a_mixed_column_keeps_each_value_as_it_is(books: Books) -> None:
    books.write(text("A1", "code") + number("A2", "7") + text("A3", "007"))
    assert (await books.read())[0] == [{"code": "7"}, {"code": '"007"'}]
    assert (await books.read(schema={"code": "text"}))[0] == [{"code": "7"}, {"code": "007"}]


async def test_each_sheet_is_a_stream(books: Books) -> None:
    write_workbook(books.folder / "book.xlsx", {"One": HEADER + number("A2", "1"), "Two": text("A1", "x")})
    found = [info.name for info in await books.source().discover()]
    assert found == ["book.xlsx#One", "book.xlsx#Two"]
    assert (await books.read("book.xlsx#One"))[0] == [{"id": 1, "name": None}]
    with pytest.raises(Invalid, match=r"name one: book\.xlsx#One, book\.xlsx#Two"):
        await books.read()
    with pytest.raises(Invalid, match="no sheet 'Three'; there are One, Two"):
        await books.read("book.xlsx#Three")


async def test_the_same_sheet_of_several_workbooks_is_one_stream(books: Books) -> None:
    books.write(HEADER + number("A2", "1"), name="a.xlsx")
    books.write(HEADER + number("A2", "2"), name="b.xlsx")
    assert [row["id"] for row in (await books.read("*.xlsx#One"))[0]] == [1, 2]


async def test_a_cell_far_away_does_not_fill_the_memory(books: Books) -> None:
    books.write(HEADER + number("XFD1048576", "1"))
    with pytest.raises(Invalid) as caught:
        await books.read()
    assert caught.value.code == "file-expands"


async def test_a_workbook_that_becomes_too_large_is_refused(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_BYTES", 1024 * 1024)
    books.write(HEADER + text("A2", " " * 2 * 1024 * 1024))
    with pytest.raises(Invalid) as caught:
        await books.read()
    assert caught.value.code == "file-expands"


@pytest.mark.parametrize("content", [b"", b"not a workbook", b"PK\x05\x06" + b"\0" * 18])
async def test_what_is_no_workbook_is_refused(books: Books, content: bytes) -> None:
    (books.folder / "book.xlsx").write_bytes(content)
    with pytest.raises(Invalid) as caught:
        await books.read()
    assert caught.value.code == "file-malformed"


async def test_a_workbook_that_breaks_off_is_refused(books: Books) -> None:
    books.write(HEADER + "".join(number(f"A{row}", str(row)) for row in range(2, 500)))
    path = books.folder / "book.xlsx"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Invalid) as caught:
        await books.read()
    assert caught.value.code == "file-malformed"


async def test_a_damaged_part_is_refused(books: Books) -> None:
    books.write(HEADER + "".join(number(f"A{row}", str(row * 7919)) for row in range(2, 500)))
    path = books.folder / "book.xlsx"
    with zipfile.ZipFile(path) as parts:
        at = parts.getinfo("xl/worksheets/sheet1.xml").header_offset + 200
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(Invalid) as caught:
        await books.read()
    assert caught.value.code == "file-malformed"
