"""files: the conformance suite on a real folder, once for each way files are written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.connector.conformance import Rig, conformance
from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.ids import new_id
from dataaggregator_connectors.files import CONNECTOR
from dataaggregator_connectors.files.config import CsvOptions, FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.names import format_of, shape_of
from dataaggregator_connectors.files.source import FilesSource
from dataaggregator_connectors.files.writing import open_writer

ROWS = pa.table(
    {
        "id": [1, 2, 3, 4, 5],
        "name": ["a", None, "", 'with "quotes", commas\nand lines', " edges "],
        "share": [0.5, 1.25, None, -3.0, 1e300],
        "good": [True, False, None, True, False],
    }
)


class FilesRig(Rig):
    def __init__(self, folder: Path, context: Context, form: str) -> None:
        folder.mkdir()
        self.config = self._files = FilesConfig.model_validate({"root": folder.as_uri()})
        self.context = context
        self.rows = ROWS
        self.target = f"marts/held.{form}"
        self._folder, self._form = folder, form

    async def seed(self, rows: pa.Table) -> str:
        name = f"seeded.{self._form}"
        writer = open_writer(
            self._folder / name,
            format_of(self._files, name),
            rows.schema,
            CsvOptions.model_validate({}),
            shape_of(name).packed,
        )
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()
        return name

    async def held(self) -> list[dict[str, Any]]:
        """What stands in the files a manifest lists."""
        source = FilesSource(self._files, self.context)
        rows: list[dict[str, Any]] = []
        for info in await source.discover("marts/*"):
            if info.schema.names:
                async for batch in source.read(ReadRequest(stream=info.name)):
                    rows += batch.rows.to_pylist()
        return sorted(rows, key=lambda row: int(row["id"]))


class PartitionedRig(FilesRig):
    """Files in folders by a column's values; that column comes last when it is read."""

    def __init__(self, folder: Path, context: Context) -> None:
        super().__init__(folder, context, "parquet")
        self.config = self._files = FilesConfig.model_validate({"root": folder.as_uri(), "partition_by": ["good"]})
        self.target = "marts/held"

    async def seed(self, rows: pa.Table) -> str:
        destination = FilesDestination(self._files, self.context)
        load = LoadRequest(new_id(), new_id(), "seeded", WriteKind.APPEND, 1)
        await destination.prepare(load, rows.schema)
        await destination.begin(load)
        for batch in rows.to_batches():
            await destination.write(batch)
        await destination.commit({})
        return "seeded"


@pytest.fixture(params=["csv", "csv.gz", "ndjson", "ndjson.zst", "parquet", "arrow", "partitioned"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, context: Context) -> FilesRig:
    if request.param == "partitioned":
        return PartitionedRig(tmp_path / "data", context)
    return FilesRig(tmp_path / "data", context, request.param)


TestFiles = conformance(CONNECTOR)
