"""http: pages that break, servers that are busy, logins, and batches that carry a key."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane import batch as batches
from dataaggregator.dataplane.batch import BATCH_BYTES
from dataaggregator.errors import Invalid, PlatformError
from dataaggregator.ids import new_id
from dataaggregator_connectors.http import client
from dataaggregator_connectors.http.config import HttpConfig
from dataaggregator_connectors.http.destination import HttpDestination
from dataaggregator_connectors.http.source import HttpSource
from tests.serving import served

Posted = list[tuple[str, Any]]
LOGIN = {"type": "oauth2_client_credentials", "token_url": "", "client_id": "me", "client_secret": "s"}
STREAMS = {
    "same": {"path": "same", "pagination": {"type": "page"}},
    "circle": {
        "path": "circle",
        "pagination": {"type": "cursor", "param": "after", "path": "$.next"},
        "records": "$.of",
    },
    "broken": {"path": "broken", "pagination": {"type": "page"}},
    "growing": {"path": "growing", "pagination": {"type": "page"}},
    "doubled": {"path": "doubled", "pagination": {"type": "page"}},
    "said_twice": {"path": "said_twice", "records": "$.of"},
    "long": {"path": "long"},
    "even": {"path": "even"},
    "busy": {"path": "busy"},
    "half": {"path": "half"},
    "login": {"path": "login"},
    "moved": {"path": "moved"},
    "posted": {"path": "posted", "method": "POST", "records": "$.rows", "batch_rows": 2},
}


class Api:
    """A server with bad manners."""

    def __init__(self) -> None:
        self.asked = 0
        self.posted: Posted = []
        self.app = web.Application()
        for name in (
            "same",
            "circle",
            "broken",
            "growing",
            "doubled",
            "said_twice",
            "long",
            "even",
            "busy",
            "half",
            "login",
            "moved",
        ):
            self.app.router.add_get(f"/{name}", getattr(self, name))
        self.app.router.add_post("/posted", self.take)
        self.app.router.add_post("/token", self.token)

    async def circle(self, request: web.Request) -> web.Response:
        """No rows, and a next page that is this one again."""
        return web.json_response({"of": [], "next": "1", "at": request.query.get("after")})

    async def same(self, _: web.Request) -> web.Response:
        return web.json_response([{"a": 1}])

    async def broken(self, asked: web.Request) -> web.Response:
        return web.json_response([{"a": 1}]) if asked.query["page"] == "1" else web.Response(text='[{"a":')

    async def growing(self, asked: web.Request) -> web.Response:
        page = int(asked.query["page"])
        rows = [{"a": page}] if page < 4 else [{"a": page, "b": "new"}] if page == 4 else []
        return web.json_response(rows)

    async def doubled(self, asked: web.Request) -> web.Response:
        text = '[{"a": 1}, {"a": 2, "a": 3}, {"a": 4}]' if asked.query["page"] == "1" else "[]"
        return web.Response(text=text)

    async def said_twice(self, _: web.Request) -> web.Response:
        return web.Response(text='{"of": [{"a": 1}], "next": "1", "next": "2"}')

    async def long(self, _: web.Request) -> web.Response:
        """One record is larger by itself than a batch is to be, and the long ones stand together."""
        sizes = (BATCH_BYTES + 1, *[100_000] * 50, *[1] * 5000)
        return web.json_response([{"a": number, "text": "x" * size} for number, size in enumerate(sizes)])

    async def even(self, _: web.Request) -> web.Response:
        return web.json_response([{"a": number, "text": "x" * 100_000} for number in range(60)])

    async def busy(self, _: web.Request) -> web.Response:
        self.asked += 1
        return (
            web.json_response([{"a": 1}]) if self.asked > 2 else web.Response(status=429, headers={"Retry-After": "0"})
        )

    async def half(self, asked: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(asked)
        await answer.write(b"[{")
        assert asked.transport is not None
        asked.transport.close()
        return answer

    async def login(self, asked: web.Request) -> web.Response:
        return web.json_response([{"who": asked.headers.get("Authorization", "")}])

    async def moved(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/")

    async def token(self, asked: web.Request) -> web.Response:
        assert asked.headers["Authorization"].startswith("Basic ")
        return web.json_response({"access_token": "fresh", "expires_in": 100})

    async def take(self, asked: web.Request) -> web.Response:
        self.posted.append((asked.headers["Idempotency-Key"], await asked.json()))
        return web.Response(status=204)


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, HttpConfig]]:
    api = Api()
    async with served(api.app) as base:
        auth = LOGIN | {"token_url": f"{base}/token"}
        yield api, HttpConfig.model_validate({"base_url": base, "streams": STREAMS, "auth": auth})


async def read(config: HttpConfig, context: Context, stream: str) -> tuple[list[Any], list[Any]]:
    source = HttpSource(config, context)
    rows: list[Any] = []
    rejected: list[Any] = []
    try:
        async for batch in source.read(ReadRequest(stream=stream)):
            rows += batch.rows.to_pylist()
            rejected += batch.rejected
    finally:
        await source.close()
    return rows, rejected


@pytest.mark.parametrize(
    ("stream", "code", "said"),
    [
        ("same", "http-pagination", "page 2"),
        ("circle", "http-pagination", "page 2"),
        ("broken", "http-malformed", "page 2"),
        ("said_twice", "http-malformed", "page 1: the key 'next' stands twice"),
        ("half", "connector-unreachable", "page 1"),
        ("moved", "http-status", "redirects"),
    ],
)
async def test_a_bad_page_fails_the_read_and_is_named(
    api: tuple[Api, HttpConfig], context: Context, stream: str, code: str, said: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        await read(api[1], context, stream)
    assert caught.value.code == code
    assert said in caught.value.detail


async def test_of_an_answer_no_more_is_read_than_a_page_may_have(
    api: tuple[Api, HttpConfig], context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LARGEST_ANSWER_BYTES", 1_000_000)
    with pytest.raises(Invalid, match="larger than 1000000 bytes") as caught:
        await read(api[1], context, "even")
    assert caught.value.code == "http-page-too-large"


async def test_a_record_of_a_page_with_a_key_twice_is_set_aside_as_it_was(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    rows, rejected = await read(api[1], context, "doubled")
    assert [row["a"] for row in rows] == [1, 4]
    (row,) = rejected
    assert (row.position, row.code, row.row) == ("doubled, page 1, record 2", "row-malformed", '{"a": 2, "a": 3}')
    assert row.reason == "the key 'a' stands twice in one object"


async def test_a_page_of_long_records_comes_in_batches_of_bounded_size(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    source = HttpSource(api[1], context)
    found = [batch async for batch in source.read(ReadRequest(stream="long"))]
    await source.close()
    assert [row for batch in found for row in batch.rows.column("a").to_pylist()] == list(range(5051))
    assert sum(batch.read for batch in found) == 5051
    assert all(batch.rows.nbytes <= BATCH_BYTES or batch.rows.num_rows == 1 for batch in found)


async def test_of_a_page_no_more_records_are_shaped_at_once_than_a_batch_is_to_have(
    api: tuple[Api, HttpConfig], context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shaped into one batch and parted afterwards would have been in memory twice all the same."""
    shaped: list[int] = []
    parts = batches.parts

    def seen(rows: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
        shaped.append(rows.nbytes)
        return parts(rows, most_bytes)

    monkeypatch.setattr(batches, "parts", seen)
    rows, _ = await read(api[1], context, "even")
    assert len(rows) == 60
    assert shaped
    assert max(shaped) <= BATCH_BYTES


async def test_a_field_that_appears_later_rejects_its_rows_by_position(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    rows, rejected = await read(api[1], context, "growing")
    assert [row["a"] for row in rows] == [1, 2, 3]
    assert [row.position for row in rejected] == ["growing, page 4, record 1"]


async def test_a_busy_server_is_asked_again_after_its_time(api: tuple[Api, HttpConfig], context: Context) -> None:
    rows, _ = await read(api[1], context, "busy")
    assert rows == [{"a": 1}]
    assert api[0].asked >= 3


async def test_client_credentials_become_a_token(api: tuple[Api, HttpConfig], context: Context) -> None:
    rows, _ = await read(api[1], context, "login")
    assert rows == [{"who": "Bearer fresh"}]


async def test_batches_are_sent_at_the_commit_each_with_a_key_of_its_own(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    destination = HttpDestination(api[1], context)
    load = LoadRequest(new_id(), new_id(), "posted", WriteKind.APPEND, 1)
    rows = pa.table({"a": [1, 2, 3]})
    for _ in range(2):
        await destination.prepare(load, rows.schema)
        await destination.begin(load)
        for batch in rows.to_batches():
            await destination.write(batch)
        sent = len(api[0].posted)
        assert (await destination.commit({})).rows == 3
        assert len(api[0].posted) == sent + 2
    await destination.close()
    keys = [key for key, _ in api[0].posted]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2
    assert [body for _, body in api[0].posted[:2]] == [{"rows": [{"a": 1}, {"a": 2}]}, {"rows": [{"a": 3}]}]


async def test_what_is_posted_are_the_values_and_not_how_python_shows_them(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    destination = HttpDestination(api[1], context)
    load = LoadRequest(new_id(), new_id(), "posted", WriteKind.APPEND, 1)
    rows = pa.record_batch({"raw": pa.array([b"\0a"]), "n": pa.array([float("nan")])})
    await destination.begin(load)
    await destination.write(rows)
    await destination.commit({})
    await destination.close()
    assert [body for _, body in api[0].posted] == [{"rows": [{"raw": "AGE=", "n": "NaN"}]}]
