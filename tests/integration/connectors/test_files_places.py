"""files, places: nothing outside the allowed folders is touched, and what was not committed is not seen."""

from pathlib import Path

import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Denied, PlatformError
from dataaggregator.ids import new_id
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
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


async def test_a_root_outside_of_the_allowed_ones_is_refused(context: Context) -> None:
    with pytest.raises(Denied):
        await FilesSource(FilesConfig.model_validate({"root": "file:///etc"}), context).discover()


async def test_a_file_put_in_place_but_not_committed_is_neither_read_nor_kept(
    config: FilesConfig, context: Context, tmp_path: Path
) -> None:
    destination = FilesDestination(config, context)
    load = LoadRequest(new_id(), new_id(), "out", WriteKind.APPEND, 1)
    await destination.prepare(load, ROWS.schema)
    await destination.begin(load)
    await destination.write(ROWS.to_batches()[0])
    await destination.commit({})
    (kept,) = (tmp_path / "data" / "out").iterdir()
    orphan = kept.with_name(f"part.{new_id().hex}.0.parquet")
    orphan.write_bytes(kept.read_bytes())
    read = [batch.read async for batch in FilesSource(config, context).read(ReadRequest(stream="out"))]
    assert sum(read) == 2
    await destination.begin(LoadRequest(new_id(), load.pipeline_id, "out", WriteKind.APPEND, 2))
    await destination.close()
    assert kept.exists()
    assert not orphan.exists()
