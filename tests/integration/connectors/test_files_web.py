"""files on a web server: read by name and whole, never listed, never written."""

import gzip
import shutil
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Invalid, NotFound, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.files import CONNECTOR
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.source import FilesSource
from tests.serving import answering, served


@pytest.fixture
async def config() -> AsyncIterator[FilesConfig]:
    async def whole(_: web.Request) -> web.Response:
        return web.Response(body=b"id\n1\n2\n")

    async def cut(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"id\n1\n")
        assert request.transport is not None
        request.transport.close()
        return answer

    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    async def denied(_: web.Request) -> web.Response:
        raise web.HTTPForbidden

    application = web.Application()
    for name, handler in (("a b.csv", whole), ("cut.csv", cut), ("moved.csv", moved), ("denied.csv", denied)):
        application.router.add_get(f"/data/{name}", handler)
    async with served(application) as address:
        yield FilesConfig.model_validate({"root": f"{address}/data"})


async def read(config: FilesConfig, context: Context, stream: str) -> list[dict[str, Any]]:
    source = FilesSource(config, context)
    try:
        return [row async for batch in source.read(ReadRequest(stream=stream)) for row in batch.rows.to_pylist()]
    finally:
        await source.close()


async def test_a_file_is_read_by_its_name_and_its_copy_taken_away(config: FilesConfig, context: Context) -> None:
    assert await read(config, context, "a b.csv") == [{"id": 1}, {"id": 2}]
    assert list(context.folder.iterdir()) == []


async def test_a_file_that_breaks_off_on_the_way_fails_the_read(config: FilesConfig, context: Context) -> None:
    with pytest.raises(Transient, match=r"cut\.csv"):
        await read(config, context, "cut.csv")
    assert list(context.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("stream", "error", "code"),
    [
        ("nothing.csv", NotFound, "stream-missing"),
        ("denied.csv", Invalid, "http-status"),
        ("moved.csv", Invalid, "egress-denied"),
        ("*.csv", Invalid, "stream-invalid"),
        ("../other.csv", Invalid, "stream-invalid"),
    ],
)
async def test_what_cannot_be_fetched_is_said(
    config: FilesConfig, context: Context, stream: str, error: type[Invalid], code: str
) -> None:
    with pytest.raises(error) as caught:
        await read(config, context, stream)
    assert caught.value.code == code


async def test_a_server_that_may_not_be_reached_is_refused(config: FilesConfig, context: Context) -> None:
    closed = Context(Egress(EgressPolicy()), folder=context.folder)
    with pytest.raises(Invalid) as caught:
        await read(config, closed, "a b.csv")
    assert caught.value.code == "egress-denied"


async def test_nothing_is_written_to_a_web_server(config: FilesConfig, context: Context) -> None:
    destination = FilesDestination(config, context)
    with pytest.raises(Invalid, match="can only be read"):
        await destination.prepare(
            LoadRequest(new_id(), new_id(), "out.csv", WriteKind.APPEND, 1), pa.schema({"id": pa.int64()})
        )
    await destination.close()


async def test_the_check_passes_without_a_listing(config: FilesConfig, context: Context) -> None:
    checks = [check async for check in CONNECTOR.check(config, context)]
    assert all(check.ok for check in checks)


ROWS = b"id\n" + b"1\n" * 4000
PACKED = gzip.compress(ROWS)
LIMIT = 1000


async def large(request: web.Request) -> web.StreamResponse:
    """The same rows: with their size declared, without, or packed into few bytes whose number is declared."""
    declared, body, headers = {
        "declared.csv": (True, ROWS, {}),
        "undeclared.csv": (False, ROWS, {}),
        "packed.csv": (True, PACKED, {"Content-Encoding": "gzip"}),
    }[request.path.rpartition("/")[2]]
    answer = web.StreamResponse(headers=headers)
    if declared:
        answer.content_length = len(body)
    await answer.prepare(request)
    await answer.write(body)
    return answer


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("declared.csv", f"has {len(ROWS)} bytes"),
        ("undeclared.csv", "goes on after 0 bytes"),
        ("packed.csv", "goes on after 0 bytes"),
    ],
)
async def test_a_file_is_fetched_up_to_its_bound_whatever_the_server_says_of_its_size(
    context: Context, stream: str, said: str
) -> None:
    assert len(PACKED) < LIMIT < len(ROWS)
    async with answering(large) as address:
        root = {"root": f"{address}/data"}
        bounded = FilesConfig.model_validate(root | {"fetched_bytes": LIMIT})
        with pytest.raises(Invalid) as caught:
            await read(bounded, context, stream)
        enough = FilesConfig.model_validate(root | {"fetched_bytes": len(ROWS)})
        assert len(await read(enough, context, stream)) == 4000
    assert caught.value.code == "file-too-large"
    assert f"/data/{stream} {said}; fetched_bytes of the connector allows {LIMIT}. Raise it" in caught.value.detail
    assert list(context.folder.iterdir()) == []


@pytest.mark.parametrize("stream", ["declared.csv", "undeclared.csv", "packed.csv"])
async def test_a_fetched_file_leaves_room_on_the_disk_to_other_runs(
    context: Context, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    usage = SimpleNamespace(free=len(ROWS))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    async with answering(large) as address:
        config = FilesConfig.model_validate({"root": f"{address}/data"})
        with pytest.raises(Transient, match=rf"/data/{stream} .* has room for {len(ROWS) * 9 // 10}") as caught:
            await read(config, context, stream)
        usage.free = 2 * len(ROWS)
        assert len(await read(config, context, stream)) == 4000
    assert caught.value.code == "disk-full"
    assert list(context.folder.iterdir()) == []
