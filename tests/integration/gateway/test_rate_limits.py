"""Rate limits as an administrator looks after them, in one process and over two replicas on one Redis."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from dataaggregator.limits.redis import RedisLimits
from dataaggregator.settings import Settings
from dataaggregator.telemetry import metrics

from .conftest import Platform, started

TIGHT = {"rate_limit_login": "3/600", "rate_limit_run": "2/600", "rate_limit_api": "600/60"}


@pytest.fixture
def tight(platform_settings: Settings) -> Settings:
    return Settings.model_validate({**platform_settings.model_dump(), **TIGHT})


@pytest.fixture
async def platform(tight: Settings) -> AsyncIterator[Platform]:
    async with started(tight) as platform:
        yield platform


@pytest.fixture
async def replicas(tight: Settings, redis_url: str) -> AsyncIterator[list[Platform]]:
    async with AsyncExitStack() as stack:
        limits = [RedisLimits(redis_url, tight.rates()) for _ in range(2)]
        yield [await stack.enter_async_context(started(tight, each)) for each in limits]


async def start(platform: Platform, **headers: str) -> int:
    return (await platform.call("POST", "/api/pipelines/x/runs", **headers))[0]


async def shown(platform: Platform, query: str = "") -> list[dict[str, Any]]:
    status, page, _ = await platform.call("GET", f"/api/rate-limits?{query}")
    assert status == 200, page
    return list(page["items"])


async def test_replicas_agree_and_what_one_clears_is_cleared_for_both(replicas: list[Platform]) -> None:
    one, other = replicas
    assert [await start(one), await start(other), await start(one), await start(other)] == [202, 202, 429, 429]
    key = f"workspace:{one.workspace}"
    for replica in replicas:
        (bucket,) = await shown(replica, f"class=run&workspace={one.workspace}")
        assert (bucket["class"], bucket["key"], bucket["limit"], bucket["remaining"]) == ("run", key, 2, 0)
        assert bucket["reset_seconds"] > 500
    status, told, _ = await other.call("DELETE", f"/api/rate-limits?workspace={one.workspace}")
    assert (status, told) == (200, {"cleared": 1})
    assert await shown(one, "class=run") == []
    assert [await start(one), await start(other), await start(one)] == [202, 202, 429]


async def test_a_login_from_an_address_may_be_tried_again_once_it_is_cleared(platform: Platform) -> None:
    async def login() -> int:
        body = {"email": "nobody@example.org", "password": "x"}
        return (await platform.call("POST", "/api/auth/login", body, token=""))[0]

    assert [await login(), await login(), await login()] == [401, 401, 429]  # the administrator's was the first
    (bucket,) = await shown(platform, "class=login")
    assert (bucket["key"], bucket["remaining"], bucket["trusted"]) == ("ip:127.0.0.1", 0, False)
    async with platform.ports.database.platform() as tx:
        await tx.execute(
            "INSERT INTO gateway.login_buckets VALUES ('ip:127.0.0.1:x1', 0, now()), ('ip:9:x1', 0, now())"
        )
    assert (await platform.call("DELETE", "/api/rate-limits?class=login&address=127.0.0.1"))[1] == {"cleared": 1}
    assert await login() == 401
    async with platform.ports.database.platform() as tx:
        assert [row["key"] for row in await tx.fetch("SELECT key FROM gateway.login_buckets")] == ["ip:9:x1"]


async def test_clearing_is_audited_and_has_to_say_what(platform: Platform) -> None:
    assert await start(platform) == 202
    status, told, _ = await platform.call("DELETE", "/api/rate-limits")
    assert (status, told["errors"][0]["code"]) == (422, "required")
    two = f"user={platform.workspace}&address=::1"
    assert (await platform.call("DELETE", f"/api/rate-limits?{two}"))[1]["errors"][0]["code"] == "too-many"
    for wrong in ("class=other", "user=me", "address=here", "colour=red"):
        assert (await platform.call("DELETE", f"/api/rate-limits?{wrong}"))[0] == 422
    assert (await platform.call("DELETE", "/api/rate-limits?class=run"))[1] == {"cleared": 1}
    async with platform.ports.database.platform() as tx:
        said = await tx.fetchval("SELECT data::text FROM gateway.outbox WHERE type = 'audit.entry.v1'")
    entry = orjson.loads(said)
    assert (entry["action"], entry["actor"], entry["address"]) == (
        "rate-limit.cleared",
        "admin@example.org",
        "127.0.0.1",
    )
    assert entry["detail"] == {"class": "run", "key": None, "cleared": 1}


async def test_others_see_and_clear_only_what_counts_for_their_own_workspace(platform: Platform) -> None:
    _, other, _ = await platform.call("POST", "/api/workspaces", {"name": "other"})
    platform.token = await platform.login()
    assert [await start(platform), await start(platform, X_Workspace="other")] == [202, 202]
    status, page, _ = await platform.call("GET", "/api/rate-limits", X_Workspace="other")
    assert (status, [one["key"] for one in page["items"]]) == (200, [f"workspace:{other['id']}"])
    for query in (f"workspace={platform.workspace}", "address=127.0.0.1"):
        for method in ("GET", "DELETE"):
            assert (await platform.call(method, f"/api/rate-limits?{query}", X_Workspace="other"))[0] == 403
    assert (await platform.call("DELETE", "/api/rate-limits?class=run", X_Workspace="other"))[1] == {"cleared": 1}
    assert [one["key"] for one in await shown(platform, "class=run")] == [f"workspace:{platform.workspace}"]
    body = {"email": "eve@example.org", "password": "eve's password", "role": "editor"}
    assert (await platform.call("POST", "/api/users", body))[0] == 201
    eve = await platform.login("eve@example.org", "eve's password")
    for method in ("GET", "DELETE"):
        assert (await platform.call(method, "/api/rate-limits?class=run", token=eve))[0] == 403


async def test_pages_tell_each_bucket_once(platform: Platform) -> None:
    for number in range(5):
        await platform.ports.limits.take("run", f"workspace:{number}")
    whole = [one["key"] for one in await shown(platform, "class=run")]
    paged: list[str] = []
    cursor = ""
    while True:
        _, page, _ = await platform.call("GET", f"/api/rate-limits?class=run&limit=2{cursor}")
        paged += [one["key"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert paged == whole == [f"workspace:{number}" for number in range(5)]


async def test_a_trusted_network_has_more_and_an_end_too(tight: Settings) -> None:
    trusted = tight.model_copy(update={"rate_limit_trusted_networks": ("127.0.0.0/8",)})
    async with started(trusted) as platform:
        counted = metrics.RATE_LIMITED.of("run")._value.get()
        statuses = [await start(platform) for _ in range(21)]
        assert statuses == [202] * 20 + [429]
        assert metrics.RATE_LIMITED.of("run")._value.get() - counted == 1
        (bucket,) = await shown(platform, "class=run")
        assert (bucket["trusted"], bucket["limit"], bucket["remaining"]) == (True, 20, 0)


async def test_an_address_that_claims_to_be_trusted_gets_nothing_for_it(tight: Settings) -> None:
    trusted = tight.model_copy(update={"rate_limit_trusted_networks": ("10.0.0.0/8",)})
    async with started(trusted) as platform:
        statuses = [await start(platform, X_Forwarded_For="10.0.0.1") for _ in range(3)]
        assert statuses == [202, 202, 429]


async def test_a_refusal_says_when_and_how_much(platform: Platform) -> None:
    await start(platform)
    _, _, allowed = await platform.call("POST", "/api/pipelines/x/runs")
    assert (allowed["RateLimit-Limit"], allowed["RateLimit-Remaining"]) == ("2", "0")
    status, told, refused = await platform.call("POST", "/api/pipelines/x/runs")
    assert (status, told["code"], refused["RateLimit-Remaining"]) == (429, "rate-limited", "0")
    assert 200 < int(refused["Retry-After"]) <= 300
    assert int(refused["RateLimit-Reset"]) > 500
