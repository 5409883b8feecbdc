"""http as a destination: what an API answers to a batch, and that each record is there once where it knows the keys."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.errors import Invalid, PlatformError, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.http import CONNECTOR
from dataaggregator_connectors.http.config import HttpConfig
from dataaggregator_connectors.http.destination import HttpDestination
from tests.integration.connectors.conftest import served

ROWS = pa.table({"id": [1, 2, 2, 2, 3, 4, 5, 6], "share": [0.1, 1e300, 1e300, 1e300, -0.5, 5e-324, 0.25, 1 / 3]})


class Api:
    """Takes records once by their key, after the answers that a test has put in front."""

    def __init__(self) -> None:
        self.answers: Iterator[web.Response | None] = iter(())
        self.most = 100
        self.keys: list[str] = []
        self.held: dict[str, list[Any]] = {}
        self.app = web.Application()
        self.app.router.add_post("/in", self.take)

    async def take(self, asked: web.Request) -> web.Response:
        key, rows = asked.headers["Idempotency-Key"], (await asked.json())["rows"]
        self.keys.append(key)
        if (answer := next(self.answers, None)) is not None:
            return answer
        if len(rows) > self.most:
            return web.Response(status=413, text="at most so many")
        self.held.setdefault(key, rows)
        return web.Response(status=204)

    @property
    def records(self) -> list[Any]:
        return [row for rows in self.held.values() for row in rows]


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, HttpConfig]]:
    api = Api()
    async with served(api.app) as base:
        streams = {"in": {"path": "in", "records": "$.rows", "batch_rows": 4}}
        yield api, HttpConfig.model_validate({"base_url": base, "streams": streams})


async def loaded(config: HttpConfig, context: Context, load: LoadRequest) -> int:
    """One attempt of the load."""
    destination = HttpDestination(config, context)
    try:
        await destination.prepare(load, ROWS.schema)
        await destination.begin(load)
        for batch in ROWS.to_batches():
            await destination.write(batch)
        return (await destination.commit({})).rows
    finally:
        await destination.close()


def request() -> LoadRequest:
    return LoadRequest(new_id(), new_id(), "in", WriteKind.APPEND, 1)


async def test_an_api_that_asks_to_wait_gets_the_same_batch_again(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    api[0].answers = iter([web.Response(status=429, headers={"Retry-After": "0"}), web.Response(status=503)])
    assert await loaded(api[1], context, request()) == 8
    assert api[0].records == ROWS.to_pylist()
    assert len(set(api[0].keys[:3])) == 1


async def test_an_api_that_took_a_batch_and_failed_has_it_once_after_the_next_attempt(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    load = request()
    for number, failing in enumerate((0, 1)):
        api[0].answers = iter([None] * failing + [web.Response(status=500)])
        with pytest.raises(Transient) as caught:
            await loaded(api[1], context, load)
        assert (caught.value.code, f"batch {number + 1} of 2" in caught.value.detail) == ("connector-unreachable", True)
    api[0].answers = iter(())
    assert await loaded(api[1], context, load) == 8
    assert api[0].records == ROWS.to_pylist()


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_a_batch_that_is_too_large_is_halved_until_it_fits_and_alike_rows_stay_several(
    api: tuple[Api, HttpConfig], context: Context, most: int
) -> None:
    api[0].most, load = most, request()
    assert await loaded(api[1], context, load) == 8
    assert api[0].records == ROWS.to_pylist()
    keys = list(api[0].keys)
    assert await loaded(api[1], context, load) == 8
    assert api[0].keys == [*keys, *keys]
    assert api[0].records == ROWS.to_pylist(), "the next attempt doubles none"


async def test_one_record_that_is_too_large_fails_the_load_by_name(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    api[0].most = 0
    with pytest.raises(Invalid) as caught:
        await loaded(api[1], context, request())
    assert (caught.value.code, "batch 1.1.1 of 2" in caught.value.detail) == ("http-batch-too-large", True)


@pytest.mark.parametrize(("status", "code"), [(422, "http-status"), (400, "http-status"), (409, "http-status")])
async def test_a_batch_that_is_refused_fails_the_load_with_the_words_of_the_api(
    api: tuple[Api, HttpConfig], context: Context, status: int, code: str
) -> None:
    """No record is lost: nothing says that these were taken, and the cursor stays where it is."""
    refusal = web.Response(status=status, text='{"id": "is taken"}')
    api[0].answers = iter([None, refusal])
    with pytest.raises(PlatformError) as caught:
        await loaded(api[1], context, request())
    assert caught.value.code == code
    assert not isinstance(caught.value, Transient)
    assert all(part in caught.value.detail for part in ("batch 2 of 2", str(status), "is taken"))
    assert api[0].records == ROWS.to_pylist()[:4]


def test_the_interface_says_at_least_once() -> None:
    assert {(one.mode.value, one.delivery) for one in CONNECTOR.write_modes} == {("append", "at_least_once")}
