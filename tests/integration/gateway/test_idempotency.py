"""Idempotency-Key: carried out once, answered alike."""

import asyncio

import pytest

from tests.integration.control import until

from .conftest import ADMIN, Platform

START = "/api/pipelines/x/runs"


async def test_the_same_request_with_the_same_key_gets_the_same_answer(platform: Platform) -> None:
    first = await platform.call("POST", START, {"a": 1}, Idempotency_Key="k1")
    again = await platform.call("POST", START, {"a": 1}, Idempotency_Key="k1")
    assert first[0] == again[0] == 202
    assert first[1] == again[1]
    assert first[2]["Location"] == again[2]["Location"]
    assert "Idempotent-Replayed" not in first[2]
    assert again[2]["Idempotent-Replayed"] == "true"
    assert platform.upstream.started == 1
    assert (await platform.call("POST", START, {"a": 1}))[1] == {"number": 2}


async def test_who_asks_again_gets_the_answer_in_a_coding_of_their_own(platform: Platform) -> None:
    path = "/api/pipelines/large/runs"
    told = []
    for accepted, coding in (("br", "br"), ("identity", None), ("gzip", "gzip")):
        status, answer, headers = await platform.call("POST", path, {}, Idempotency_Key="k1", Accept_Encoding=accepted)
        assert (status, headers.get("Content-Encoding"), headers["Vary"]) == (202, coding, "Accept-Encoding, Origin")
        told.append(answer)
    assert told[0] == told[1] == told[2]
    assert (len(told[0]["padding"]), platform.upstream.started) == (2000, 1)


async def test_another_request_with_the_key_is_refused(platform: Platform) -> None:
    await platform.call("POST", START, {"a": 1}, Idempotency_Key="k1")
    for path, body in ((START, {"a": 2}), ("/api/pipelines/y/runs", {"a": 1})):
        status, told, _ = await platform.call("POST", path, body, Idempotency_Key="k1")
        assert (status, told["code"]) == (422, "idempotency-key-reused")
    assert platform.upstream.started == 1


async def test_of_many_at_once_one_is_carried_out_and_the_others_wait_or_get_its_answer(platform: Platform) -> None:
    platform.upstream.hold = asyncio.Event()
    first = asyncio.create_task(platform.call("POST", START, {}, Idempotency_Key="k1"))
    await asyncio.wait_for(platform.upstream.holding.wait(), 10)
    others = await asyncio.gather(*(platform.call("POST", START, {}, Idempotency_Key="k1") for _ in range(10)))
    assert {(status, told["code"]) for status, told, _ in others} == {(409, "idempotency-in-flight")}
    platform.upstream.hold.set()
    assert (await first)[0] == 202
    assert (await platform.call("POST", START, {}, Idempotency_Key="k1"))[0] == 202
    assert platform.upstream.started == 1


async def test_twenty_at_once_start_one_run(platform: Platform) -> None:
    answers = await asyncio.gather(*(platform.call("POST", START, {}, Idempotency_Key="k1") for _ in range(20)))
    assert {status for status, _, _ in answers} <= {202, 409}
    assert 202 in {status for status, _, _ in answers}
    assert platform.upstream.started == 1


@pytest.mark.parametrize(("pipeline", "status"), [("broken", 500), ("cut", 503)])
async def test_what_may_have_been_done_is_asked_for_again_under_the_same_id(
    platform: Platform, pipeline: str, status: int
) -> None:
    """Only the service knows whether it was: its COMMIT may have been carried out and not answered."""
    path = f"/api/pipelines/{pipeline}/runs"
    for _ in range(2):
        assert (await platform.call("POST", path, {}, Idempotency_Key="k1"))[0] == status
    first, second = platform.upstream.ids
    assert first == second != "None"
    assert (await platform.call("POST", path, {"a": 1}, Idempotency_Key="k1"))[1]["code"] == "idempotency-key-reused"
    await platform.call("POST", path, {}, Idempotency_Key="k2")
    assert platform.upstream.ids[-1] != first


async def test_what_nobody_ended_is_asked_for_again_under_the_same_id(platform: Platform) -> None:
    """The gateway that carried it out has died."""
    platform.upstream.hold = asyncio.Event()
    first = asyncio.create_task(platform.call("POST", START, {}, Idempotency_Key="k1"))
    await asyncio.wait_for(platform.upstream.holding.wait(), 10)
    assert (await platform.call("POST", START, {}, Idempotency_Key="k1"))[0] == 409
    platform.clock.forward(301)
    second = asyncio.create_task(platform.call("POST", START, {}, Idempotency_Key="k1"))

    async def asked_twice() -> bool:
        return platform.upstream.started == 2

    await until(asked_twice, "the second call at the service")
    platform.upstream.hold.set()
    assert (await first)[0] == (await second)[0] == 202
    assert len(set(platform.upstream.ids)) == 1


async def test_an_id_of_the_callers_own_does_not_count(platform: Platform) -> None:
    id_ = "0198c0de-0000-7000-8000-000000000000"
    await platform.call("POST", START, {}, Idempotency_Id=id_)
    await platform.call("POST", START, {}, Idempotency_Id=id_, Idempotency_Key="k1")
    assert id_ not in platform.upstream.ids


async def test_a_caller_who_goes_away_gets_the_answer_later(platform: Platform) -> None:
    platform.upstream.hold = asyncio.Event()
    first = asyncio.create_task(platform.call("POST", START, {}, Idempotency_Key="k1"))
    await asyncio.wait_for(platform.upstream.holding.wait(), 10)
    first.cancel()
    platform.upstream.hold.set()
    async with asyncio.timeout(10):
        statuses = [409]
        while statuses[-1] != 202:
            statuses.append((await platform.call("POST", START, {}, Idempotency_Key="k1"))[0])
    assert set(statuses) == {202, 409}
    assert platform.upstream.started == 1


async def test_a_key_is_kept_for_a_day(platform: Platform) -> None:
    await platform.call("POST", START, {}, Idempotency_Key="k1")
    platform.clock.forward(86_399)
    platform.token = await platform.login()
    assert (await platform.call("POST", START, {}, Idempotency_Key="k1"))[2]["Idempotent-Replayed"] == "true"
    platform.clock.forward(2)
    assert (await platform.call("POST", START, {}, Idempotency_Key="k1"))[1] == {"number": 2}


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_cannot_be_used_is_422(platform: Platform, key: str) -> None:
    status, told, _ = await platform.call("POST", START, {}, Idempotency_Key=key)
    assert (status, told["code"]) == (422, "idempotency-key-invalid")
    assert platform.upstream.started == 0


async def test_two_users_may_use_the_same_key(platform: Platform) -> None:
    body = {"email": "ada@example.org", "password": "ada's password", "role": "operator"}
    assert (await platform.call("POST", "/api/users", body))[0] == 201
    ada = await platform.login("ada@example.org", "ada's password")
    await platform.call("POST", START, {}, Idempotency_Key="k1")
    assert (await platform.call("POST", START, {}, token=ada, Idempotency_Key="k1"))[1] == {"number": 2}


async def test_an_answer_with_tokens_or_rows_is_never_kept(platform: Platform) -> None:
    """Refresh tokens stand nowhere but hashed, and rows of a source only in the answer to who may see them."""
    login = {"email": ADMIN[0], "password": ADMIN[1]}
    status, pair, _ = await platform.call("POST", "/api/auth/login", login, Idempotency_Key="k1")
    assert status == 200
    refresh = {"refresh_token": pair["refresh_token"]}
    assert (await platform.call("POST", "/api/auth/refresh", refresh, Idempotency_Key="k2"))[0] == 200
    for number, path in enumerate(("connectors/c/preview", "connectors/test", "transformations/t/test")):
        await platform.call("POST", f"/api/{path}", {}, Idempotency_Key=f"probe-{number}")
    async with platform.ports.database.platform() as tx:
        assert await tx.fetch("SELECT key FROM gateway.idempotency_keys") == []
