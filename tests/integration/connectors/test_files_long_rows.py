"""files, long rows: what is read together is bounded in bytes, whatever the format, and no row is too long to pass."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane import batch as batches
from dataaggregator.dataplane.batch import BATCH_BYTES, Batch
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.source import FilesSource
from tests.integration.connectors.workbooks import number, text, write_workbook

CELL_CHARS = 32_000
"""A cell of a workbook holds hardly more."""
LONG = [f"{at:04}" + "x" * 100_000 for at in range(60)]
LARGER = [LONG[0], "y" * (BATCH_BYTES + BATCH_BYTES // 2), LONG[1]]
TOO_LONG_FOR_CSV = "y" * (9 << 20)

Write = Callable[[Path, list[str]], None]


def csv(path: Path, texts: list[str]) -> None:
    path.write_text("n,text\n" + "".join(f"{at},{text}\n" for at, text in enumerate(texts)))


def ndjson(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"n": at, "text": text}) + "\n" for at, text in enumerate(texts)))


def json_array(path: Path, texts: list[str]) -> None:
    path.write_text(json.dumps([{"n": at, "text": text} for at, text in enumerate(texts)]))


def table(texts: list[str]) -> pa.Table:
    return pa.table({"n": range(len(texts)), "text": texts})


def parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(table(texts), path)


def arrow(path: Path, texts: list[str]) -> None:
    with pa.OSFile(str(path), "w") as sink, pa.ipc.new_file(sink, table(texts).schema) as file:
        file.write_table(table(texts))


def excel(path: Path, texts: list[str]) -> None:
    """A row is as long by many cells."""
    head = text("A1", "n") + "".join(text(f"{letter}1", letter) for letter in "BCDE")
    rows = (
        number(f"A{at + 2}", str(at)) + "".join(text(f"{letter}{at + 2}", one[:CELL_CHARS]) for letter in "BCDE")
        for at, one in enumerate(texts)
    )
    write_workbook(path, {"One": head + "".join(rows)})


FORMS: dict[str, Write] = {
    "a.csv": csv,
    "a.ndjson": ndjson,
    "a.json": json_array,
    "a.parquet": parquet,
    "a.arrow": arrow,
    "a.xlsx": excel,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


async def read(folder: Path, context: Context, name: str) -> list[Batch]:
    source = FilesSource(FilesConfig.model_validate({"root": folder.as_uri()}), context)
    try:
        return [batch async for batch in source.read(ReadRequest(stream=name))]
    finally:
        await source.close()


@pytest.mark.parametrize("name", FORMS)
async def test_batches_of_long_rows_are_bounded_in_bytes(folder: Path, context: Context, name: str) -> None:
    FORMS[name](folder / name, LONG)
    found = await read(folder, context, name)
    assert [n for batch in found for n in batch.rows.column("n").to_pylist()] == list(range(len(LONG)))
    assert sum(batch.read for batch in found) == len(LONG)
    assert max(batch.rows.nbytes for batch in found) <= BATCH_BYTES


@pytest.mark.parametrize("name", [name for name in FORMS if name != "a.xlsx"])
async def test_a_row_larger_than_a_batch_passes(folder: Path, context: Context, name: str) -> None:
    FORMS[name](folder / name, LARGER)
    found = await read(folder, context, name)
    assert [text for batch in found for text in batch.rows.column("text").to_pylist()] == LARGER


async def test_a_row_of_csv_that_is_longer_than_what_is_read_at_once_is_refused_and_said_so(
    folder: Path, context: Context
) -> None:
    csv(folder / "a.csv", ["short", TOO_LONG_FOR_CSV])
    with pytest.raises(Invalid, match=r"a\.csv: .*4 MiB"):
        await read(folder, context, "a.csv")


async def test_the_line_of_a_row_that_is_refused_is_told_behind_long_rows(folder: Path, context: Context) -> None:
    csv(folder / "a.csv", [*LARGER, "one,too many"])
    rejected = [row for batch in await read(folder, context, "a.csv") for row in batch.rejected]
    assert [(row.position, row.reason) for row in rejected] == [("a.csv:5", "3 fields instead of 2")]


@pytest.mark.parametrize("name", ["a.ndjson", "a.json", "a.parquet", "a.xlsx"])
async def test_no_more_is_read_at_once_than_a_batch_is_to_be(
    folder: Path, context: Context, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read into one batch and parted afterwards would have been in memory all the same."""
    parted: list[int] = []
    parts = batches.parts

    def seen(rows: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
        parted.append(rows.nbytes)
        return parts(rows, most_bytes)

    monkeypatch.setattr(batches, "parts", seen)
    FORMS[name](folder / name, LONG)
    await read(folder, context, name)
    assert parted
    assert max(parted) < BATCH_BYTES + 2 * len(LONG[0])
