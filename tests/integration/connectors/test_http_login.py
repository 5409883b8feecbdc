"""http, logging in: what a token endpoint answers besides a token, and what "Retry-After" may say."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.errors import Denied, PlatformError, RateLimited, Transient
from dataaggregator_connectors.http.client import Answer, Ask, Client
from dataaggregator_connectors.http.config import HttpConfig
from tests.serving import served

SECRET = "hunter2canary"


@dataclass
class Api:
    status: int = 200
    token: dict[str, Any] = field(default_factory=lambda: {"access_token": "fresh", "expires_in": 100})
    tokens = 0
    leads_to: str | None = None
    retry_after: str | None = None

    async def give_token(self, asked: web.Request) -> web.Response:
        self.tokens += 1
        if self.leads_to not in (None, asked.path):
            return web.Response(status=307, headers={"Location": self.leads_to})
        return web.json_response(self.token, status=self.status)

    async def rows(self, _: web.Request) -> web.Response:
        if self.retry_after is not None:
            return web.Response(status=429, headers={"Retry-After": self.retry_after})
        return web.json_response([])


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def client(api: Api, context: Context) -> AsyncIterator[Client]:
    app = web.Application()
    for path in ("/token", "/elsewhere"):
        app.router.add_post(path, api.give_token)
    app.router.add_get("/rows", api.rows)
    async with served(app) as base:
        auth = {
            "type": "oauth2_client_credentials",
            "token_url": f"{base}/token",
            "client_id": "me",
            "client_secret": SECRET,
        }
        config = HttpConfig.model_validate({"base_url": base, "streams": {"rows": {"path": "rows"}}, "auth": auth})
        client = Client(config, context)
        yield client
        await client.close()


async def ask(client: Client) -> Answer:
    return await client.ask(Ask("GET", client.url("rows"), "rows"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, Transient), (503, Transient), (429, Transient), (408, Transient), (400, Denied), (401, Denied)],
)
async def test_a_refused_token_is_asked_for_again_where_that_may_help_and_no_error_holds_the_secret(
    api: Api, client: Client, status: int, kind: type[PlatformError]
) -> None:
    api.status, api.token = status, {"error": f"not with {SECRET}"}
    with pytest.raises(kind, match="token was refused") as refused:
        await ask(client)
    assert type(refused.value) is kind
    assert SECRET not in str(refused.value)


async def test_a_token_endpoint_that_leads_elsewhere_is_not_followed(api: Api, client: Client) -> None:
    api.leads_to = "/elsewhere"
    with pytest.raises(Denied, match=r"refused \(307\)"):
        await ask(client)
    assert api.tokens == 1


@pytest.mark.parametrize("life", ["soon", [], "1e999", 10**400, None, "100"])
async def test_how_long_a_token_lives_may_be_said_in_any_way(api: Api, client: Client, life: object) -> None:
    api.token["expires_in"] = life
    assert (await ask(client)).document == []
    await ask(client)
    assert api.tokens == 1


@pytest.mark.parametrize("after", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 -0000", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_api_that_wants_us_later_is_told_as_such(api: Api, client: Client, after: str) -> None:
    api.retry_after = after
    with pytest.raises(RateLimited) as limited:
        await ask(client)
    assert limited.value.retry_after is not None
    assert 60 < limited.value.retry_after < 1e12


async def test_a_pause_that_cannot_be_read_is_none(api: Api, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataaggregator_connectors.http.client.POLITE_TRIES", 1)
    api.retry_after = "\u00b2"
    with pytest.raises(RateLimited):
        await ask(client)
