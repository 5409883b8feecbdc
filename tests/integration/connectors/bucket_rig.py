"""A bucket of a real endpoint, as the conformance suite and the tests beside it use it."""

from typing import Any

import obstore
import pyarrow as pa

from dataaggregator.connector.conformance import Rig
from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.ids import new_id
from dataaggregator_connectors.files.config import CsvOptions, FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.names import format_of, shape_of
from dataaggregator_connectors.files.source import FilesSource
from dataaggregator_connectors.files.writing import open_writer
from tests.buckets import Endpoint
from tests.integration.connectors.test_files import ROWS

SMALL = pa.table({"id": [1, 2]})


class BucketRig(Rig):
    def __init__(self, endpoint: Endpoint, context: Context, form: str = "parquet") -> None:
        bucket = f"b{new_id().hex}"
        endpoint.make_bucket(bucket)
        self.config = self.files = FilesConfig.model_validate(endpoint.config(bucket, "below/here"))
        self.context = context
        self.rows = ROWS
        self.target = f"marts/held.{form}"
        self.store = endpoint.store(bucket, "below/here")
        self._form = form

    async def seed(self, rows: pa.Table) -> str:
        name = f"seeded.{self._form}"
        path = self.context.folder / name
        options = CsvOptions.model_validate({})
        writer = open_writer(path, format_of(self.files, name), rows.schema, options, shape_of(name).packed)
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()
        self.put(name, path.read_bytes())
        return name

    async def held(self) -> list[dict[str, Any]]:
        source = FilesSource(self.files, self.context)
        rows: list[dict[str, Any]] = []
        for info in await source.discover("marts/*"):
            async for batch in source.read(ReadRequest(stream=info.name)):
                rows += batch.rows.to_pylist()
        await source.close()
        return sorted(rows, key=lambda row: int(row["id"]))

    def put(self, name: str, content: bytes) -> None:
        obstore.put(self.store, name, content)

    def names(self) -> list[str]:
        listed = (str(found["path"]) for chunk in obstore.list(self.store) for found in chunk)
        return sorted(name for name in listed if "_dataaggregator" not in name)

    async def read(self, stream: str) -> list[int]:
        source = FilesSource(self.files, self.context)
        try:
            rows = [row async for batch in source.read(ReadRequest(stream=stream)) for row in batch.rows.to_pylist()]
        finally:
            await source.close()
        return sorted(row["id"] for row in rows)

    async def begun(self, **more: Any) -> FilesDestination:
        """A load of two rows that waits for its commit."""
        given: dict[str, Any] = {"run_id": new_id(), "pipeline_id": new_id(), "write": WriteKind.APPEND, "epoch": 1}
        load = LoadRequest(stream=self.target, **(given | more))
        made = FilesDestination(self.files, self.context)
        try:
            await made.prepare(load, SMALL.schema)
            await made.begin(load)
            await made.write(SMALL.to_batches()[0])
        except BaseException:
            await made.close()
            raise
        return made


async def finished(load: FilesDestination) -> None:
    try:
        await load.commit({})
    finally:
        await load.close()
