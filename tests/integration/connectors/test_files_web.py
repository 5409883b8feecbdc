"""files on a web server: read by name and whole, never listed, never written."""

from collections.abc import AsyncIterator
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
from tests.serving import served


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
