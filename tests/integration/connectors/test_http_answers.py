"""http as a destination: what an API answers to a batch, and that each record is there once where it knows the keys."""

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, Refused, WriteKind
from dataaggregator.errors import Invalid, Permanent, PlatformError, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.http import CONNECTOR
from dataaggregator_connectors.http.config import HttpConfig
from dataaggregator_connectors.http.destination import HttpDestination
from tests.serving import served

ROWS = pa.table({"id": [1, 2, 2, 2, 3, 4, 5, 6], "share": [0.1, 1e300, 1e300, 1e300, -0.5, 5e-324, 0.25, 1 / 3]})


class Api:
    """Takes records once by their key, after the answers that a test has put in front."""

    def __init__(self) -> None:
        self.answers: Iterator[web.Response | None] = iter(())
        self.most = 100
        self.refused: tuple[int, ...] = ()
        self.refusal = 422
        self.echoes = False
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
        if any(row["id"] in self.refused for row in rows):
            said = '{"id": "is taken"}'
            if self.echoes:
                said = f"\x00no\n{asked.headers['X-Key']} {asked.headers['Authorization']}" + "!" * 1000
            return web.Response(status=self.refusal, text=said)
        self.held.setdefault(key, rows)
        return web.Response(status=204)

    def refuse(self, status: int, *ids: int) -> None:
        self.refusal, self.refused = status, ids

    @property
    def records(self) -> list[Any]:
        return [row for rows in self.held.values() for row in rows]


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, HttpConfig]]:
    api = Api()
    async with served(api.app) as base:
        streams = {"in": {"path": "in", "records": "$.rows", "batch_rows": 4}}
        yield api, HttpConfig.model_validate({"base_url": base, "streams": streams})


async def loaded(
    config: HttpConfig,
    context: Context,
    load: LoadRequest,
    refused: list[Refused] | Callable[[Refused], None] | None = None,
    rows: pa.Table = ROWS,
) -> int:
    """One attempt of the load; what is refused goes to the list, or whoever is told."""
    destination = HttpDestination(config, context)
    try:
        await destination.prepare(load, rows.schema)
        await destination.begin(load)
        for batch in rows.to_batches():
            await destination.write(batch)
        if refused is not None:
            destination.tell_refused(refused.append if isinstance(refused, list) else refused)
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


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_a_batch_with_refused_rows_is_halved_until_they_stand_alone_and_the_rest_is_there_once(
    api: tuple[Api, HttpConfig], context: Context, status: int
) -> None:
    api[0].refuse(status, 2, 6)
    load = request()
    refused: list[Refused] = []
    assert await loaded(api[1], context, load, refused) == 4
    kept = [row for row in ROWS.to_pylist() if row["id"] not in (2, 6)]
    assert api[0].records == kept
    assert [one.rows.to_pylist() for one in refused] == [[row] for row in ROWS.to_pylist() if row["id"] in (2, 6)]
    assert {one.rows.schema for one in refused} == {ROWS.schema}
    assert {(one.rule, one.reason) for one in refused} == {(f"http-{status}", f'{status}: {{"id": "is taken"}}')}
    keys = list(api[0].keys)
    assert await loaded(api[1], context, load, refused) == 4
    assert api[0].keys == [*keys, *keys]
    assert api[0].records == kept, "the next attempt doubles none"


async def test_an_api_that_refuses_every_row_is_not_asked_for_each(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    api[0].refuse(422, *range(10_000))
    rows = pa.table({"id": range(10_000), "share": [0.5] * 10_000})
    refused: list[Refused] = []
    with pytest.raises(Invalid) as caught:
        await loaded(api[1], context, request(), refused, rows)
    assert caught.value.code == "http-status"
    assert "each of the first 20 rows, and took none" in caught.value.detail
    assert len(api[0].keys) < 50


async def test_who_is_told_of_a_refused_row_may_end_the_load(api: tuple[Api, HttpConfig], context: Context) -> None:
    api[0].refuse(422, 2)

    def enough(_: Refused) -> None:
        raise Permanent("rejected-over-threshold", "enough")

    with pytest.raises(Permanent):
        await loaded(api[1], context, request(), enough)
    assert len(api[0].keys) == 4, "the batch, its half, the first row, the second"


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410, 415, 418])
async def test_an_answer_that_speaks_of_the_call_fails_the_load_with_the_words_of_the_api(
    api: tuple[Api, HttpConfig], context: Context, status: int
) -> None:
    """No record is lost: nothing says that these were taken, and the cursor stays where it is."""
    api[0].answers = iter([None, web.Response(status=status, text='{"path": "is none"}')])
    refused: list[Refused] = []
    with pytest.raises(PlatformError) as caught:
        await loaded(api[1], context, request(), refused)
    assert not isinstance(caught.value, Transient)
    assert all(part in caught.value.detail for part in ("batch 2 of 2", str(status), "is none"))
    assert (api[0].records, refused, len(api[0].keys)) == (ROWS.to_pylist()[:4], [], 2)


async def test_a_conflict_that_says_when_to_come_back_is_no_refusal(
    api: tuple[Api, HttpConfig], context: Context
) -> None:
    """The same key is still in flight: in halves, under other keys, its records would be there twice."""
    api[0].answers = iter([web.Response(status=409, headers={"Retry-After": "0"})])
    assert await loaded(api[1], context, request()) == 8
    assert (api[0].records, api[0].keys[0]) == (ROWS.to_pylist(), api[0].keys[1])


async def test_the_words_of_an_api_are_cut_and_repeat_no_secret(api: tuple[Api, HttpConfig], context: Context) -> None:
    secrets = {"headers": {"X-Key": "sesame-open"}, "auth": {"type": "basic", "username": "me", "password": "hidden-1"}}
    config = HttpConfig.model_validate(api[1].model_dump() | secrets)
    api[0].refuse(422, 2)
    api[0].echoes = True
    refused: list[Refused] = []
    await loaded(config, context, request(), refused)
    reason = refused[0].reason
    assert reason.startswith("422: no ******** ")
    assert len(reason) < 400
    for secret in ("sesame-open", "hidden-1", base64.b64encode(b"me:hidden-1").decode(), "\x00", "\n"):
        assert secret not in reason


def test_the_interface_says_at_least_once() -> None:
    assert {(one.mode.value, one.delivery) for one in CONNECTOR.write_modes} == {("append", "at_least_once")}
