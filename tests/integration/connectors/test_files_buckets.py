"""files in a bucket: the conformance suite on real endpoints, and what only a store without locks can do wrong."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import obstore
import pyarrow as pa
import pytest
from aiohttp import web

from dataaggregator.connector.conformance import conformance
from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Conflict, Invalid, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.files import CONNECTOR, csv_reading, destination, object_ledger, objects
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.manifest import Manifest
from dataaggregator_connectors.files.objects import ObjectTree
from dataaggregator_connectors.files.source import FilesSource
from tests.buckets import Endpoint, S3Endpoint
from tests.integration.connectors.bucket_rig import BucketRig, finished
from tests.integration.connectors.workbooks import number, text, write_workbook
from tests.serving import served

STORES = ("s3", "azure") if os.environ.get("STORES") == "all" else ("s3",)


@pytest.fixture(params=STORES)
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    made: Endpoint = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=["parquet", "csv.gz"])
def rig(request: pytest.FixtureRequest, endpoint: Endpoint, context: Context) -> BucketRig:
    return BucketRig(endpoint, context, request.param)


@pytest.fixture
def bucket(endpoint: Endpoint, context: Context) -> BucketRig:
    return BucketRig(endpoint, context)


TestFilesInABucket = conformance(CONNECTOR)


async def test_an_object_replaced_while_it_is_read_fails_the_read(
    bucket: BucketRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BLOCK_BYTES", 64 * 1024)
    monkeypatch.setattr(csv_reading, "BLOCK_BYTES", 64 * 1024)
    lines = b"".join(b"%d,%s\n" % (number, b"x" * 200) for number in range(100_000))
    bucket.put("a.csv", b"id,name\n" + lines)
    source = FilesSource(bucket.files, bucket.context)
    reading = source.read(ReadRequest(stream="a.csv", batch_rows=1000))
    await anext(reading)
    bucket.put("a.csv", b"id,name\n" + lines.replace(b"x", b"y"))
    with pytest.raises(Transient, match=r"a\.csv changed while it was read"):
        [batch async for batch in reading]
    await source.close()


async def test_names_globs_and_partitions_are_those_of_a_folder(bucket: BucketRig) -> None:
    for name, row in (("a b/ü#?.csv", 1), ("a b/c/d.csv", 2), ("log/year=2025/x.csv", 3), ("log/year=2026/x.csv", 4)):
        bucket.put(name, b"id\n%d\n" % row)
    bucket.put("log/_SUCCESS", b"")
    assert await bucket.read("a b/ü#?.csv") == [1]
    assert await bucket.read("a b") == [1]
    assert await bucket.read("a b/*.csv") == [1]
    assert await bucket.read("a b/**/*.csv") == [1, 2]
    assert await bucket.read("log") == [3, 4]
    assert await bucket.read("log/year=*6/*") == [4]
    source = FilesSource(bucket.files, bucket.context)
    found = {info.name: info.schema.names for info in await source.discover()}
    assert found == {"a b/c/d.csv": ["id"], "a b/ü#?.csv": ["id"], "log": ["id", "year"]}
    await source.close()


async def test_partitions_are_written_with_their_values_in_the_names(bucket: BucketRig) -> None:
    bucket.files = bucket.files.model_copy(update={"partition_by": ("land",)})
    bucket.target = "sales"
    made = FilesDestination(bucket.files, bucket.context)
    rows = pa.table({"id": [1, 2], "land": ["a/b=c", None]})
    load = LoadRequest(new_id(), new_id(), "sales", WriteKind.APPEND, 1)
    await made.prepare(load, rows.schema)
    await made.begin(load)
    await made.write(rows.to_batches()[0])
    await finished(made)
    source = FilesSource(bucket.files, bucket.context)
    read = [row async for batch in source.read(ReadRequest(stream="sales")) for row in batch.rows.to_pylist()]
    await source.close()
    assert sorted(read, key=lambda row: int(row["id"])) == rows.to_pylist()


async def test_a_large_load_becomes_several_objects_of_which_none_is_missing(
    bucket: BucketRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "PART_BYTES", 6 * 1024 * 1024)
    bucket.target = "large.csv"
    rows = pa.table({"id": list(range(60_000)), "name": ["x" * 300] * 60_000})
    made = FilesDestination(bucket.files, bucket.context)
    load = LoadRequest(new_id(), new_id(), "large.csv", WriteKind.APPEND, 1)
    await made.prepare(load, rows.schema)
    await made.begin(load)
    for batch in rows.to_batches(max_chunksize=5000):
        await made.write(batch)
    assert not [name for name in bucket.names() if "large" not in name]
    await finished(made)
    assert len(bucket.names()) > 2
    assert await bucket.read("large.csv") == list(range(60_000))
    assert list(bucket.context.folder.glob("*.draft")) == []


async def test_an_attempt_that_was_taken_over_commits_nothing_and_writes_over_nothing(bucket: BucketRig) -> None:
    same: dict[str, Any] = {"run_id": new_id(), "pipeline_id": new_id()}
    old = await bucket.begun(**same, epoch=1)
    new = await bucket.begun(**same, epoch=2)
    await finished(new)
    before = bucket.names()
    with pytest.raises(Conflict) as caught:
        await finished(old)
    assert caught.value.code == "lease-lost"
    assert set(before) < set(bucket.names())
    assert await bucket.read(bucket.target) == [1, 2]


async def test_of_loads_that_commit_at_once_none_is_lost(bucket: BucketRig) -> None:
    loads = [await bucket.begun() for _ in range(6)]
    await asyncio.gather(*(finished(load) for load in loads))
    assert await bucket.read(bucket.target) == sorted([1, 2] * 6)


async def test_a_commit_whose_answer_is_lost_is_found_and_not_repeated(
    bucket: BucketRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated, a replace would take away what another load has added since."""
    load = await bucket.begun(write=WriteKind.REPLACE)
    bucket.put("marts/held.later.parquet", b"")
    put = ObjectTree.put
    lost: list[str] = []

    def loses_its_answer(tree: ObjectTree, name: str, data: bytes, version: Any) -> None:
        put(tree, name, data, version)
        if not lost:
            lost.append(name)
            held = tree.get(name)
            assert held is not None
            manifest = Manifest.of(held[0])
            manifest.files.append("held.later.parquet")
            put(tree, name, manifest.bytes(), held[1])
            raise Transient("connector-unreachable", "the answer is lost")

    monkeypatch.setattr(ObjectTree, "put", loses_its_answer)
    await finished(load)
    (name,) = lost
    assert len(json.loads(bytes(obstore.get(bucket.store, name).bytes()))["files"]) == 2


async def test_what_was_never_committed_is_kept_a_day_and_then_taken_away(
    bucket: BucketRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {"pipeline_id": new_id()}
    old = await bucket.begun(**same, epoch=1)
    await finished(await bucket.begun(**same, epoch=2))
    with pytest.raises(Conflict):
        await finished(old)
    (kept, orphan) = bucket.names()
    await finished(await bucket.begun(**same, epoch=3))
    assert {kept, orphan} < set(bucket.names())
    monkeypatch.setattr(object_ledger, "KEPT", timedelta(seconds=-1))
    await finished(await bucket.begun(**same, epoch=4))
    assert len(bucket.names()) == 3
    assert await bucket.read(bucket.target) == [1, 1, 1, 2, 2, 2]


async def test_what_a_load_under_way_has_put_in_place_is_not_taken_away(
    bucket: BucketRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_ledger, "KEPT", timedelta(seconds=-1))
    monkeypatch.setattr(destination, "PART_BYTES", 0)
    slow = await bucket.begun()
    assert len(bucket.names()) == 1
    await finished(await bucket.begun())
    await finished(slow)
    assert await bucket.read(bucket.target) == [1, 1, 2, 2]


async def test_a_part_that_was_taken_away_fails_the_commit(bucket: BucketRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination, "PART_BYTES", 0)
    load = await bucket.begun()
    (part,) = bucket.names()
    obstore.delete(bucket.store, part)
    with pytest.raises(Conflict, match="taken away"):
        await finished(load)


@pytest.fixture
async def careless(s3: S3Endpoint) -> AsyncIterator[str]:
    """A store that takes every write, whatever it is to be written over."""

    async def passed_on(request: web.Request) -> web.Response:
        kept = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("if-match", "if-none-match", "host", "content-length")
        }
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, s3.address + request.path_qs, headers=kept, data=await request.read()
            ) as answer,
        ):
            headers = {name: answer.headers[name] for name in ("ETag", "Last-Modified") if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", passed_on)
    async with served(application) as address:
        yield address


async def test_a_store_that_takes_every_write_is_refused(s3: S3Endpoint, careless: str, context: Context) -> None:
    bucket = BucketRig(s3, context)
    bucket.files = bucket.files.model_copy(update={"endpoint": careless})
    with pytest.raises(Invalid) as caught:
        await bucket.begun()
    assert caught.value.code == "store-unsafe"
    assert bucket.names() == []
    checks = [check async for check in CONNECTOR.check(bucket.files, bucket.context)]
    assert [(check.name, check.ok) for check in checks] == [
        ("allowed", True),
        ("list", True),
        ("write permission", False),
    ]


async def test_a_workbook_in_a_bucket_is_read(bucket: BucketRig) -> None:
    path = bucket.context.folder / "book.xlsx"
    write_workbook(path, {"One": text("A1", "id") + number("A2", "7")})
    bucket.put("book.xlsx", path.read_bytes())
    assert await bucket.read("book.xlsx") == [7]


async def test_a_listing_tells_an_object_from_the_one_before(bucket: BucketRig, context: Context) -> None:
    source = FilesSource(bucket.files, context)
    try:
        assert await source.listing("in/*.csv") == []
        bucket.put("in/a.csv", b"id\n1\n")
        [first] = await source.listing("in/*.csv")
        assert await source.listing("in/*.csv") == [first]
        bucket.put("in/a.csv", b"id\n2\n")
        [second] = await source.listing("in/*.csv")
        assert (first.name, first.size, second.size) == ("in/a.csv", 5, 5)
        assert second.version != first.version
    finally:
        await source.close()
