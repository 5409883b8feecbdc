"""files, formats: compression with its bounds, partitions as folders, Arrow, and each of them damaged."""

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.files import opening, parts
from dataaggregator_connectors.files.config import CsvOptions, FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.source import FilesSource

ROWS = pa.table({"id": [1, 2, 3], "land": ["CH", None, "a/b=c"], "year": [2025, 2026, 2026]})


class Folder:
    def __init__(self, path: Path, context: Context) -> None:
        self.path, self._context = path, context

    def _config(self, config: dict[str, Any]) -> FilesConfig:
        return FilesConfig.model_validate({"root": self.path.as_uri()} | config)

    def put(self, name: str, content: bytes) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)

    async def streams(self) -> list[str]:
        return [info.name for info in await FilesSource(self._config({}), self._context).discover()]

    async def read(
        self,
        stream: str,
        *,
        schema: dict[str, str] | None = None,
        columns: tuple[str, ...] | None = None,
        **config: Any,
    ) -> list[dict[str, Any]]:
        source = FilesSource(self._config(config), self._context)
        request = ReadRequest(stream=stream, schema=schema, columns=columns)
        return [row async for batch in source.read(request) for row in batch.rows.to_pylist()]

    async def load(
        self, stream: str, rows: pa.Table = ROWS, write: WriteKind = WriteKind.APPEND, **config: Any
    ) -> None:
        destination = FilesDestination(self._config(config), self._context)
        load = LoadRequest(new_id(), new_id(), stream, write, 1)
        try:
            await destination.prepare(load, rows.schema)
            await destination.begin(load)
            for batch in rows.to_batches():
                await destination.write(batch)
            await destination.commit({})
        finally:
            await destination.close()


@pytest.fixture
def folder(tmp_path: Path, context: Context) -> Folder:
    (tmp_path / "data").mkdir()
    return Folder(tmp_path / "data", context)


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".lz4"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_what_is_written_compressed_is_read_again(folder: Folder, form: str, ending: str) -> None:
    await folder.load(f"out.{form}{ending}", write=WriteKind.REPLACE)
    assert await folder.read(f"out.{form}{ending}") == ROWS.to_pylist()


async def test_appended_files_carry_the_compression_in_their_names(folder: Folder) -> None:
    await folder.load("out.csv.gz")
    await folder.load("out.csv.gz")
    written = list(folder.path.glob("out.*"))
    assert len(written) == 2
    for path in written:
        assert gzip.decompress(path.read_bytes()).startswith(b"id,land,year\n")
    assert len(await folder.read("out.csv.gz")) == 6


TEXTS = pa.table({"näme": ["ä", None, "x\ny", ""]})


@pytest.mark.parametrize("encoding", ["utf-8", "UTF_8", "utf-16", "latin-1", "cp1252"])
async def test_csv_comes_back_from_any_encoding(folder: Folder, encoding: str) -> None:
    await folder.load("a.csv", TEXTS, WriteKind.REPLACE, csv={"encoding": encoding})
    assert (folder.path / "a.csv").read_bytes().decode(encoding).startswith("näme\n")
    assert await folder.read("a.csv", csv={"encoding": encoding}) == TEXTS.to_pylist()


@pytest.mark.parametrize("content", ["näme,x\n1,2\n".encode("latin-1"), "id,x\n1,2\n".encode("utf-16")])
async def test_a_header_in_another_encoding_is_refused(folder: Folder, content: bytes) -> None:
    folder.put("a.csv", content)
    with pytest.raises(Invalid, match=r"a\.csv:1: the header is not utf-8; say in csv\.encoding") as caught:
        await folder.read("a.csv")
    assert caught.value.code == "file-malformed"


@pytest.mark.parametrize("rows", [TEXTS, pa.table({"id": [1], "note": ["5 €"]})])
async def test_what_the_encoding_does_not_have_is_refused_with_its_column(folder: Folder, rows: pa.Table) -> None:
    column, encoding = (rows.column_names[-1], "ascii" if rows is TEXTS else "latin-1")
    with pytest.raises(Invalid, match=f"Column {column}: '[ä€]' is not in {encoding}") as caught:
        await folder.load("a.csv", rows, WriteKind.REPLACE, csv={"encoding": encoding})
    assert caught.value.code == "value-does-not-fit"
    assert not [path for path in folder.path.rglob("*") if path.suffix in (".csv", ".draft")]


@pytest.mark.parametrize("encoding", ["klingon", "base64", "", "utf-8\0"])
def test_an_encoding_that_is_none_is_refused_when_it_is_configured(encoding: str) -> None:
    with pytest.raises(ValueError, match="such as utf-8, utf-16"):
        CsvOptions(encoding=encoding)


@pytest.mark.parametrize("cut", [-1, -12, -2000])
@pytest.mark.parametrize(("form", "rows"), [("csv", b"id\n" + b"1\n" * 90000), ("ndjson", b'{"id": 1}\n' * 90000)])
async def test_a_compressed_file_that_breaks_off_fails_the_read(
    folder: Folder, form: str, rows: bytes, cut: int
) -> None:
    folder.put(f"a.{form}.gz", gzip.compress(rows, compresslevel=0)[:cut])
    with pytest.raises(Invalid) as caught:
        await folder.read(f"a.{form}.gz")
    assert caught.value.code == "file-malformed"
    assert f"a.{form}.gz" in caught.value.detail


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".lz4"])
async def test_a_name_that_promises_another_compression_fails_the_read(folder: Folder, ending: str) -> None:
    folder.put(f"a.csv{ending}", b"id\n1\n")
    with pytest.raises(Invalid, match=r"a\.csv"):
        await folder.read(f"a.csv{ending}")


async def test_damage_in_a_compressed_file_is_found(folder: Folder) -> None:
    whole = bytearray(gzip.compress(b"id\n" + b"1\n" * 1000))
    whole[-6] ^= 0xFF  # the checksum of what it holds
    folder.put("a.csv.gz", bytes(whole))
    with pytest.raises(Invalid, match="incorrect data check"):
        await folder.read("a.csv.gz")


@pytest.mark.parametrize("form", ["csv", "ndjson", "json"])
async def test_a_file_made_to_fill_the_memory_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(opening, "FREE_BYTES", 1024 * 1024)
    line = {"csv": b"id\n", "ndjson": b'{"id": "', "json": b'[{"id": "'}[form]
    folder.put(f"a.{form}.gz", gzip.compress(line + b"0" * 40_000_000))
    with pytest.raises(Invalid) as caught:
        await folder.read(f"a.{form}.gz")
    assert caught.value.code == "file-expands"
    with pytest.raises(Invalid, match="becomes more than 2000000 bytes"):
        await folder.read(f"a.{form}.gz", expansion={"most_times": 10_000, "most_bytes": 2_000_000})


async def test_a_parquet_file_is_not_taken_for_one_inside_another_compression(folder: Folder) -> None:
    folder.put("a.parquet.gz", b"")
    with pytest.raises(Invalid, match="compressed inside"):
        await folder.read("a.parquet.gz")


async def test_partitions_are_written_as_folders_and_read_as_columns(folder: Folder) -> None:
    await folder.load("sales", partition_by=["year", "land"])
    folders = sorted(str(path.parent.relative_to(folder.path)) for path in folder.path.glob("sales/*=*/*/*"))
    assert folders == [
        "sales/year=2025/land=CH",
        "sales/year=2026/land=__HIVE_DEFAULT_PARTITION__",
        "sales/year=2026/land=a%2Fb%3Dc",
    ]
    rows = await folder.read("sales")
    assert sorted(rows, key=lambda row: int(row["id"])) == [
        {"id": row["id"], "year": row["year"], "land": row["land"]} for row in ROWS.to_pylist()
    ]
    assert await folder.read("sales/year=2025/**/*.parquet", columns=("land",)) == [{"land": "CH"}]
    assert await folder.streams() == ["sales"]


async def test_a_replace_takes_the_place_of_every_partition(folder: Folder) -> None:
    await folder.load("sales", partition_by=["year"])
    await folder.load("sales", ROWS.slice(0, 1), WriteKind.REPLACE, partition_by=["year"])
    assert [row["id"] for row in await folder.read("sales")] == [1]
    await folder.load("sales", ROWS.slice(0, 0), WriteKind.REPLACE, partition_by=["year"])
    assert list(folder.path.glob("sales/**/*.parquet")) == []


async def test_more_partitions_than_may_be_open_lose_no_row(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_OPEN", 2)
    rows = pa.table({"id": list(range(60)), "day": [number % 7 for number in range(60)]})
    await folder.load("days", pa.concat_tables([rows.slice(0, 30), rows.slice(30)]), partition_by=["day"])
    assert sorted(row["id"] for row in await folder.read("days")) == list(range(60))


@pytest.mark.parametrize(
    ("by", "rows", "told"),
    [
        (["nowhere"], ROWS, "nowhere, which the rows do not have"),
        (["share"], pa.table({"id": [1], "share": [0.5]}), "share is double"),
        (["id"], pa.table({"id": [1]}), "names every column"),
        (["land"], pa.table({"id": [1], "land": [""]}), "cannot be told from no value"),
        (["land"], pa.table({"id": [1], "land": ["__HIVE_DEFAULT_PARTITION__"]}), "cannot be told from no value"),
    ],
)
async def test_what_cannot_be_a_folder_is_refused(folder: Folder, by: list[str], rows: pa.Table, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        await folder.load("sales", rows, partition_by=by)
    assert list(folder.path.glob("sales/*=*")) == []


async def test_a_partitioned_stream_is_no_file(folder: Folder) -> None:
    with pytest.raises(Invalid, match="a folder"):
        await folder.load("sales.csv", partition_by=["year"])


async def test_folders_of_others_are_read_by_the_rules_of_csv(folder: Folder) -> None:
    folder.put("log/month=01/a.csv", b"id\n1\n")
    folder.put("log/month=12/a.csv", b"id\n2\n")
    assert await folder.read("log") == [{"id": 1, "month": "01"}, {"id": 2, "month": "12"}]
    assert await folder.read("log", schema={"month": "integer"}) == [{"id": 1, "month": 1}, {"id": 2, "month": 12}]
    assert await folder.read("log", hive=False) == [{"id": 1}, {"id": 2}]
    with pytest.raises(Invalid, match="not of type date32"):
        await folder.read("log", schema={"month": "date"})


async def test_a_column_in_the_file_and_in_its_folder_is_refused(folder: Folder) -> None:
    folder.put("log/id=7/a.csv", b"id\n1\n")
    with pytest.raises(Invalid, match="`hive: false`"):
        await folder.read("log")
    assert await folder.read("log", hive=False) == [{"id": 1}]


async def test_files_in_different_partitions_are_not_one_stream(folder: Folder) -> None:
    folder.put("log/year=1/a.csv", b"id\n1\n")
    folder.put("log/month=1/a.csv", b"id\n1\n")
    with pytest.raises(Invalid, match=r"its folders name \w+, those of"):
        await folder.read("log")


async def test_the_two_forms_of_arrow_are_read(folder: Folder) -> None:
    codes = pa.table({"id": [1, 2], "land": pa.array(["CH", "DE"]).dictionary_encode()})
    for name, new in (("a.arrow", ipc.new_file), ("b.arrows", ipc.new_stream)):
        sink = io.BytesIO()
        with new(sink, codes.schema) as writer:
            writer.write_table(codes)
        folder.put(name, sink.getvalue())
        assert await folder.read(name) == [{"id": 1, "land": "CH"}, {"id": 2, "land": "DE"}]


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"id\n1\n"])
async def test_what_is_no_arrow_file_is_refused(folder: Folder, content: bytes) -> None:
    folder.put("a.arrow", content)
    with pytest.raises(Invalid) as caught:
        await folder.read("a.arrow")
    assert caught.value.code == "file-malformed"


async def test_an_arrow_file_that_lies_about_its_rows_is_refused(folder: Folder) -> None:
    sink = io.BytesIO()
    offsets = pa.array([0, 9, 4], pa.int32()).buffers()[1]
    assert offsets is not None
    texts = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"0123456789"))
    with ipc.new_file(sink, pa.schema({"name": pa.string()})) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([texts], ["name"]))
    folder.put("a.arrow", sink.getvalue())
    with pytest.raises(Invalid) as caught:
        await folder.read("a.arrow")
    assert caught.value.code == "file-malformed"


async def test_an_arrow_file_that_breaks_off_is_refused(folder: Folder) -> None:
    await folder.load("a.arrow", write=WriteKind.REPLACE)
    path = folder.path / "a.arrow"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Invalid) as caught:
        await folder.read("a.arrow")
    assert caught.value.code == "file-malformed"
