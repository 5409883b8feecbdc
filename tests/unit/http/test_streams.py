"""Answers that are written piece by piece: one that breaks off never looks whole."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from dataaggregator.http.answer import Answer, StreamAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route

from .conftest import Serve

KINDS = ("text/csv", "text/event-stream")


async def download(call: Call) -> Answer:
    how = call.path["how"]

    async def write(response: web.StreamResponse) -> None:
        await response.write(b"a\n")
        if how == "broken":
            raise RuntimeError("the disk is gone")
        if how in ("stopped", "endless") and (task := asyncio.current_task()) is not None:
            task.cancel()  # as the service does when it stops
            await asyncio.sleep(0)

    return StreamAnswer(write=write, content_type=KINDS[how == "endless"])


ROUTES = [Route("GET", "/api/files/{how}", download, "A file", "files", None, produces=KINDS)]


@pytest.mark.parametrize("how", ["whole", "endless"])
async def test_a_stream_that_comes_to_its_end_is_whole(serve: Serve, how: str) -> None:
    """Events may end anywhere: who follows them asks again."""
    api = await serve(ROUTES)
    reply = await api.call("GET", f"/api/files/{how}")
    assert (reply.status, reply.raw) == (200, b"a\n")


@pytest.mark.parametrize("how", ["broken", "stopped"])
async def test_a_stream_that_breaks_off_is_cut(serve: Serve, how: str) -> None:
    api = await serve(ROUTES)
    async with api.session.get(f"{api.url}/api/files/{how}") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
