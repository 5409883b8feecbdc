"""files, places: nothing outside the allowed folders is touched, and what was not committed is not seen."""

from pathlib import Path

import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Denied, Invalid, NotFound, PlatformError, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.local_ledger import LocalLedger
from dataaggregator_connectors.files.manifest import Manifest
from dataaggregator_connectors.files.source import FilesSource

ROWS = pa.table({"id": [1, 2]})


@pytest.fixture
def config(tmp_path: Path) -> FilesConfig:
    (tmp_path / "data").mkdir()
    (tmp_path / "outside.csv").write_text("id\n9\n")
    return FilesConfig.model_validate({"root": (tmp_path / "data").as_uri()})


@pytest.mark.parametrize(
    "stream", ["../outside.csv", "/etc/passwd", "link.csv", "linked/outside.csv", "l*.csv", "a/../../outside.csv"]
)
async def test_no_name_and_no_link_leads_out_of_the_root(
    config: FilesConfig, context: Context, tmp_path: Path, stream: str
) -> None:
    (tmp_path / "data" / "link.csv").symlink_to(tmp_path / "outside.csv")
    (tmp_path / "data" / "linked").symlink_to(tmp_path)
    with pytest.raises(PlatformError) as caught:
        await FilesSource(config, context).schema(ReadRequest(stream=stream))
    assert caught.value.code in ("files-denied", "stream-invalid")


@pytest.mark.parametrize("stream", ["x" * 256, "ü" * 128 + ".csv", "folder/" + "x" * 300 + "/a.csv"])
async def test_a_name_longer_than_a_file_system_takes_is_refused(
    config: FilesConfig, context: Context, stream: str
) -> None:
    with pytest.raises(Invalid, match="longer than 255 bytes"):
        await FilesSource(config, context).schema(ReadRequest(stream=stream))


async def test_a_root_outside_of_the_allowed_ones_is_refused(context: Context) -> None:
    with pytest.raises(Denied):
        await FilesSource(FilesConfig.model_validate({"root": "file:///etc"}), context).discover()


class DiedError(BaseException):
    """Nothing of ours catches it, as nothing outlives a kill."""


async def written(config: FilesConfig, context: Context, stream: str) -> FilesDestination:
    destination = FilesDestination(config, context)
    load = LoadRequest(new_id(), new_id(), stream, WriteKind.APPEND, 1)
    await destination.prepare(load, ROWS.schema)
    await destination.begin(load)
    await destination.write(ROWS.to_batches()[0])
    return destination


async def loaded(config: FilesConfig, context: Context, stream: str) -> None:
    await (await written(config, context, stream)).commit({})


async def read(config: FilesConfig, context: Context, stream: str) -> int:
    return sum([batch.read async for batch in FilesSource(config, context).read(ReadRequest(stream=stream))])


async def test_a_file_put_in_place_but_not_committed_is_neither_read_nor_kept(
    config: FilesConfig, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loaded(config, context, "out")
    (kept,) = (tmp_path / "data" / "out").glob("*.parquet")
    dying = await written(config, context, "out")
    loading = dying._loading
    assert loading is not None
    write = LocalLedger.write

    def dies(ledger: LocalLedger, manifest: Manifest) -> None:
        if not manifest.pending:
            raise DiedError
        write(ledger, manifest)

    with monkeypatch.context() as patch:
        patch.setattr(LocalLedger, "write", dies)
        with pytest.raises(DiedError):
            await dying.commit({})
    loading.ledger.release()  # the kernel does this for a process that is gone
    (orphan,) = set((tmp_path / "data" / "out").glob("*.parquet")) - {kept}
    assert await read(config, context, "out") == 2
    await loaded(config, context, "out")
    assert kept.exists()
    assert not orphan.exists()
    assert await read(config, context, "out") == 4


async def test_streams_side_by_side_leave_each_others_files_alone(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    nested = FilesConfig.model_validate({"root": (tmp_path / "data" / "below").as_uri()})
    await loaded(config, context, "below/orders.csv")
    await loaded(config, context, "below/orders.parquet")
    await loaded(nested, context, "orders.parquet")
    await loaded(config, context, "below/orders.csv")
    there = [path.suffix for path in (tmp_path / "data" / "below").glob("orders.*")]
    assert sorted(there) == [".csv", ".csv", ".parquet", ".parquet"]


async def test_a_root_above_and_a_root_below_see_what_the_other_wrote(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    below = FilesConfig.model_validate({"root": (tmp_path / "data" / "below").as_uri()})
    await loaded(config, context, "below/orders.csv")
    assert await read(below, context, "orders.csv") == 2
    await loaded(below, context, "orders.csv")
    assert await read(below, context, "orders.*.csv") == 4
    assert await read(config, context, "below/orders.csv") == 4
    assert await read(config, context, "below") == 4


async def test_what_was_appended_is_read_by_the_name_it_was_loaded_by(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "data" / "orders.csv").write_text("id\n7\n")
    await loaded(config, context, "orders.csv")
    await loaded(config, context, "out")
    assert await read(config, context, "orders.csv") == 3
    assert [info.name for info in await FilesSource(config, context).discover()] == ["orders.csv", "out"]


async def test_a_committed_file_that_is_gone_fails_the_read(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    await loaded(config, context, "orders.csv")
    await loaded(config, context, "orders.csv")
    next((tmp_path / "data").glob("orders.*.csv")).unlink()
    with pytest.raises(NotFound, match="was committed and is gone"):
        await read(config, context, "orders.csv")


async def test_a_stream_is_loaded_by_one_at_a_time(
    config: FilesConfig, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataaggregator_connectors.files.local_ledger.LOCK_WAIT_SECONDS", 0.0)
    first = await written(config, context, "out")
    with pytest.raises(Transient, match="Another load"):
        await written(config, context, "out")
    await first.commit({})
    await loaded(config, context, "out")
    assert await read(config, context, "out") == 4


async def test_every_file_of_a_folder_is_read_however_its_ending_is_written(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    for name in ("a.csv", "B.CSV"):
        (tmp_path / "data" / name).write_text("id\n1\n")
    assert await read(config, context, ".") == 2


async def test_a_file_that_changes_while_it_is_read_fails_the_read(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "a.csv"
    path.write_text("id,name\n1,whole\n2,ha")
    reading = FilesSource(config, context).read(ReadRequest(stream="a.csv", batch_rows=1))
    assert (await anext(reading)).rows.to_pylist() == [{"id": 1, "name": "whole"}]
    with path.open("a") as file:
        file.write("lf\n")
    with pytest.raises(Transient, match="changed"):
        [batch async for batch in reading]


async def test_a_listing_tells_each_state_of_a_file_from_the_one_before(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "in"
    folder.mkdir()
    source = FilesSource(config, context)
    assert await source.listing("in/*.csv") == []
    (folder / "a.csv").write_text("id\n1\n")
    (folder / "b.txt").write_text("no file of the stream")
    [first] = await source.listing("in/*.csv")
    assert (first.name, first.size) == ("in/a.csv", 5)
    assert await source.listing("in/*.csv") == await source.listing("in") == [first]
    (folder / "new.csv").write_text("id\n2\n")
    (folder / "new.csv").rename(folder / "a.csv")  # as long as the one before
    [second] = await source.listing("in/*.csv")
    assert (second.name, second.size) == ("in/a.csv", 5)
    assert second.version != first.version
    with pytest.raises(PlatformError):
        await source.listing("../*.csv")


async def test_a_web_server_has_no_listing(context: Context) -> None:
    config = FilesConfig.model_validate({"root": "https://files.example.org/"})
    with pytest.raises(Invalid) as refused:
        await FilesSource(config, context).listing("a.csv")
    assert refused.value.code == "files-not-listed"
