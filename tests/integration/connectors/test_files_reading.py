"""files, reading: names, compression, the ways of CSV and sheets, in a folder and in a bucket alike."""

import bz2
import datetime
import gzip
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadRequest
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.source import FilesSource
from tests.buckets import S3Endpoint
from tests.integration.connectors.bucket_rig import BucketRig
from tests.integration.connectors.workbooks import number, text, write_workbook

Rows = list[dict[str, Any]]
LINES = b"id,name\n1,a\n2,b\n"
TWO: Rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


class Place(Protocol):
    """Where files are put, and the configuration by which they are found."""

    root: dict[str, Any]

    def put(self, name: str, content: bytes) -> None: ...


class InFolder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = {"root": folder.as_uri()}

    def put(self, name: str, content: bytes) -> None:
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_bytes(content)


class InBucket:
    def __init__(self, rig: BucketRig) -> None:
        self._rig = rig
        self.root = rig.files.model_dump(exclude_unset=True)

    def put(self, name: str, content: bytes) -> None:
        self._rig.put(name, content)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, context: Context) -> Iterator[Place]:
    if request.param == "folder":
        yield InFolder(tmp_path / "data")
        return
    s3: S3Endpoint = request.getfixturevalue("s3")
    yield InBucket(BucketRig(s3, context))


class Reader:
    def __init__(self, place: Place, context: Context) -> None:
        self._place, self._context = place, context

    async def __call__(self, stream: str, **config: Any) -> tuple[Rows, list[tuple[str, str]]]:
        """The rows, and of those set aside the place and the code."""
        source = FilesSource(FilesConfig.model_validate(self._place.root | config), self._context)
        rows: Rows = []
        rejected: list[tuple[str, str]] = []
        try:
            async for batch in source.read(ReadRequest(stream=stream)):
                rows += batch.rows.to_pylist()
                rejected += [(one.position, one.code) for one in batch.rejected]
        finally:
            await source.close()
        return rows, rejected


@pytest.fixture
def read(place: Place, context: Context) -> Reader:
    return Reader(place, context)


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        ("in/a.csv", ["a"]),
        ("in/*.csv", [".dot", "a", "b", "c1"]),
        ("in/[ab].csv", ["a", "b"]),
        ("in/?.csv", ["a", "b"]),
        ("in/[!a]*.csv", [".dot", "b", "c1"]),
        ("in/**/*.csv", [".dot", "a", "b", "c1", "deep"]),
        ("*/a.csv", ["a"]),
        ("in", [".dot", "a", "b", "c1"]),
    ],
)
async def test_globs_name_files_as_in_a_shell(place: Place, read: Reader, stream: str, found: list[str]) -> None:
    """But a name that begins with a dot is one like any other: what is passed over would be lost in silence."""
    for name in ("in/a.csv", "in/b.csv", "in/c1.csv", "in/x/y/deep.csv", "in/.dot.csv", "other/z.csv"):
        place.put(name, f"name\n{name.rpartition('/')[2].removesuffix('.csv')}\n".encode())
    rows, rejected = await read(stream)
    assert (sorted(row["name"] for row in rows), rejected) == (found, [])


async def test_folders_of_partitions_are_columns_with_their_types_and_nulls(place: Place, read: Reader) -> None:
    folders = ("year=2025/land=CH", "year=2026/land=a%2Fb", "year=2026/land=__HIVE_DEFAULT_PARTITION__")
    for id_, folder in enumerate(folders, start=1):
        place.put(f"log/{folder}/part.csv", b"id\n%d\n" % id_)
    rows, _ = await read("log")
    assert sorted(rows, key=lambda row: int(row["id"])) == [
        {"id": 1, "year": 2025, "land": "CH"},
        {"id": 2, "year": 2026, "land": "a/b"},
        {"id": 3, "year": 2026, "land": None},
    ]
    plain, _ = await read("log/**/*.csv", hive=False)
    assert sorted(row["id"] for row in plain) == [1, 2, 3]
    assert all(list(row) == ["id"] for row in plain)


def arrow(codec: Literal["zstd", "lz4"], content: bytes) -> bytes:
    held = pa.BufferOutputStream()
    with pa.CompressedOutputStream(held, codec) as stream:
        stream.write(content)
    return held.getvalue().to_pybytes()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": partial(arrow, "zstd"),
    ".bz2": bz2.compress,
    ".lz4": partial(arrow, "lz4"),
}


@pytest.mark.parametrize("ending", PACKERS)
async def test_what_others_have_compressed_is_read_by_its_name_or_as_is_said(
    place: Place, read: Reader, ending: str
) -> None:
    pack = PACKERS[ending]
    place.put(f"a.csv{ending}", pack(LINES))
    place.put(f"a.ndjson{ending}", pack(b'{"id": 1, "name": "a"}\n{"id": 2, "name": "b"}\n'))
    place.put("nameless/a", pack(LINES))
    assert await read(f"a.csv{ending}") == (TWO, [])
    assert await read(f"a.ndjson{ending}") == (TWO, [])
    codec = {".gz": "gzip", ".zst": "zstd"}.get(ending, ending.removeprefix("."))
    assert await read("nameless/a", format="csv", compression=codec) == (TWO, [])


async def test_parts_that_were_compressed_one_after_the_other_are_all_read(place: Place, read: Reader) -> None:
    """As `cat a.gz b.gz` makes them."""
    place.put("both.csv.gz", gzip.compress(b"id,name\n1,a\n") + gzip.compress(b"2,b\n"))
    assert await read("both.csv.gz") == (TWO, [])


@pytest.mark.parametrize(
    ("content", "options", "rows"),
    [
        (b"id;name\n1;a\n2;b\n", {"delimiter": ";"}, TWO),
        (b"id|name\r\n1|a\r\n2|b\r\n", {"delimiter": "|"}, TWO),
        (b"1,a\n2,b\n", {"header": False}, [{"column_1": 1, "column_2": "a"}, {"column_1": 2, "column_2": "b"}]),
        (b"id,name\n1,NA\n2,-\n", {"null": ["NA", "-"]}, [{"id": 1, "name": None}, {"id": 2, "name": None}]),
        (b'id,name\n1,""\n2,\n', {}, [{"id": 1, "name": ""}, {"id": 2, "name": None}]),
        ("id,name\n1,Zürich\n".encode("latin-1"), {"encoding": "latin-1"}, [{"id": 1, "name": "Zürich"}]),
        ("id,name\n1,Zürich €\n".encode("cp1252"), {"encoding": "cp1252"}, [{"id": 1, "name": "Zürich €"}]),
        ("id,name\n1,Łódź\n".encode("utf-16"), {"encoding": "utf-16"}, [{"id": 1, "name": "Łódź"}]),
        ("\ufeffid,name\n1,a\n".encode(), {}, [{"id": 1, "name": "a"}]),
        (b"id,name\n1,'a, ''b'' \n c'\n", {"quote": "'"}, [{"id": 1, "name": "a, 'b' \n c"}]),
        (b'id,name\n1,"a, ""b""\nc"\n', {}, [{"id": 1, "name": 'a, "b"\nc'}]),
    ],
)
async def test_csv_is_read_as_it_was_written(
    place: Place, read: Reader, content: bytes, options: dict[str, Any], rows: Rows
) -> None:
    place.put("a.csv", content)
    assert await read("a.csv", csv=options) == (rows, [])


async def test_tabs_part_what_the_name_says_is_parted_by_tabs(place: Place, read: Reader) -> None:
    place.put("a.tsv", b"id\tname\n1\ta\n2\tb\n")
    assert await read("a.tsv") == (TWO, [])


async def test_ragged_rows_are_set_aside_with_file_and_line_of_every_file(place: Place, read: Reader) -> None:
    place.put("in/one.csv", b'id,name\n1,"two\nlines"\n2\n3,c\n')
    place.put("in/two.csv.gz", gzip.compress(b"id,name\n4,d\n5,e,more\n"))
    rows, rejected = await read("in/*")
    assert sorted(row["id"] for row in rows) == [1, 3, 4]
    assert sorted(rejected) == [("in/one.csv:4", "row-ragged"), ("in/two.csv.gz:3", "row-ragged")]


async def test_sheets_of_a_workbook_are_read_with_days_formulas_and_merged_cells(
    place: Place, read: Reader, tmp_path: Path
) -> None:
    head = text("A1", "id") + text("B1", "day") + text("C1", "sum")
    formula = '<c r="C2"><f>A2*2</f><v>2</v></c>'
    one = head + number("A2", "1") + number("B2", "45000", 1) + formula + number("A3", "2") + number("C3", "4")
    path = tmp_path / "book.xlsx"
    write_workbook(
        path, {"One": one, "Two": text("A1", "x") + number("A2", "7")},
        after='<mergeCells count="1"><mergeCell ref="B2:B3"/></mergeCells>',
    )  # fmt: skip
    place.put("books/book.xlsx", path.read_bytes())
    day = datetime.date(2023, 3, 15)
    assert await read("books/book.xlsx#One") == ([{"id": 1, "day": day, "sum": 2}, {"id": 2, "day": day, "sum": 4}], [])
    assert await read("books/book.xlsx#Two") == ([{"x": 7}], [])
