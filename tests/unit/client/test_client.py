"""The Python client against a small real server that speaks as the gateway does."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from dataaggregator import client as client_module
from dataaggregator.client import ApiError, Client, UnreachableError
from tests.serving import served


class Gateway:
    """Counts what it is asked; tokens it gave out become stale at will."""

    def __init__(self) -> None:
        self.refreshes = 0
        self.valid = "access-0"
        self.keys: list[str] = []
        self.resumed_after: list[str | None] = []
        self.refusals: list[int] = []
        self.application = web.Application()
        self.application.router.add_post("/api/auth/login", self.login)
        self.application.router.add_post("/api/auth/refresh", self.refresh)
        self.application.router.add_get("/api/things", self.things)
        self.application.router.add_post("/api/things", self.create)
        self.application.router.add_put("/api/things/{name}", self.replace)
        self.application.router.add_post("/api/gone", self.gone)
        self.application.router.add_get("/api/events", self.events)
        self.application.router.add_get("/api/files/{how}", self.file)

    async def login(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": self.valid, "refresh_token": "refresh-0"})

    async def refresh(self, request: web.Request) -> web.Response:
        self.refreshes += 1
        self.valid = f"access-{self.refreshes}"
        return web.json_response({"access_token": self.valid, "refresh_token": f"refresh-{self.refreshes}"})

    async def things(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            return web.json_response({"status": 401, "code": "token-expired", "detail": "Log in again."}, status=401)
        place = int(request.query.get("cursor", "0"))
        return web.json_response({"items": [{"n": place}], "next_cursor": str(place + 1) if place < 2 else None})

    async def gone(self, request: web.Request) -> web.Response:
        """Killed before it could answer."""
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def file(self, request: web.Request) -> web.StreamResponse:
        """As the gateway does: one that is not whole is cut."""
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            return web.json_response({"status": 401, "code": "token-expired", "detail": "Log in again."}, status=401)
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(b"half")
        if request.match_info["how"] == "cut":
            assert request.transport is not None
            request.transport.abort()
        else:
            await answer.write(b"whole")
        return answer

    async def create(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers["Idempotency-Key"])
        return web.json_response({"name": (await request.json())["name"]}, status=201)

    async def replace(self, request: web.Request) -> web.Response:
        problem = {
            "status": 422,
            "code": "body-invalid",
            "detail": "One field is wrong.",
            "errors": [{"field": "config.url", "message": "is missing", "code": "missing"}],
        }
        if request.match_info["name"] == "new":
            problem = {"status": 404, "code": "not-found", "detail": "There is no thing named new."}
        return web.json_response(problem, status=int(str(problem["status"])))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Two events a connection, then the connection breaks off in the middle of a third."""
        if self.refusals:
            status = self.refusals.pop(0)
            return web.json_response({"status": status, "code": "not-now", "detail": "Not now."}, status=status)
        last = request.headers.get("Last-Event-ID")
        self.resumed_after.append(last)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        start = int(last or 0)
        for number in (start + 1, start + 2):
            await answer.write(f': heartbeat\n\nid: {number}\nevent: message\ndata: {{"n": {number}}}\n\n'.encode())
        await answer.write(b"id: 99\ndata: {")
        assert request.transport is not None
        request.transport.close()
        return answer


async def test_a_token_that_ended_is_renewed_once_for_all_requests_that_were_refused() -> None:
    gateway = Gateway()
    async with served(gateway.application) as url, Client(url) as client:
        await client.login("a@example.org", "secret")
        gateway.valid = "revoked"
        pages = await asyncio.gather(*(client.get("/api/things") for _ in range(8)))
    assert len(pages) == 8
    assert gateway.refreshes == 1


async def test_pages_are_followed_to_the_last() -> None:
    async with served(Gateway().application) as url, Client(url, token="access-0") as client:
        assert [item["n"] async for item in client.pages("/api/things")] == [0, 1, 2]


async def test_a_refusal_names_the_field_and_the_cure() -> None:
    async with served(Gateway().application) as url, Client(url) as client:
        with pytest.raises(ApiError, match=r"config\.url: is missing") as refused:
            await client.put("/api/things/old", {})
    assert (refused.value.status, refused.value.code) == (422, "body-invalid")


async def test_saving_creates_what_is_not_there() -> None:
    gateway = Gateway()
    async with served(gateway.application) as url, Client(url) as client:
        assert await client.save("/api/things", {"name": "new"}) == ({"name": "new"}, True)
    assert len(gateway.keys) == 1


async def test_a_broken_event_stream_goes_on_after_the_last_event_seen() -> None:
    gateway = Gateway()
    seen: list[int] = []
    async with served(gateway.application) as url, Client(url) as client:
        async for event in client.events():
            seen.append(event.data["n"])
            if len(seen) == 6:
                break
    assert seen == [1, 2, 3, 4, 5, 6]
    assert gateway.resumed_after == [None, "2", "4"]


async def test_a_stream_outlives_its_token_and_a_service_that_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RECONNECT_SECONDS", 0.01)
    gateway = Gateway()
    seen: list[int] = []
    async with served(gateway.application) as url, Client(url) as client:
        await client.login("a@example.org", "secret")
        async for event in client.events():
            seen.append(event.data["n"])
            gateway.refusals = [503, 401, 502] if len(seen) == 2 else []
            if len(seen) == 4:
                break
        gateway.refusals = [403]
        with pytest.raises(ApiError):
            await anext(client.events())
    assert seen == [1, 2, 3, 4]
    assert (gateway.refreshes, gateway.resumed_after) == (1, [None, "2"])


async def test_a_download_is_written_as_it_comes_and_one_that_is_cut_is_told(tmp_path: Path) -> None:
    gateway = Gateway()
    async with served(gateway.application) as url, Client(url, token="ended", refresh_token="refresh-0") as client:
        with (tmp_path / "file").open("wb") as into:
            await client.download("/api/files/whole", into)
        assert (tmp_path / "file").read_bytes() == b"halfwhole"
        with (tmp_path / "file").open("wb") as into, pytest.raises(UnreachableError, match="not all"):
            await client.download("/api/files/cut", into)


async def test_a_gateway_that_goes_away_before_it_answers_is_told_as_what_is_not_known() -> None:
    async with served(Gateway().application) as url, Client(url, token="ended") as client:
        with pytest.raises(UnreachableError, match="POST /api/gone: whether that was carried out is not known"):
            await client.post("/api/gone")


async def test_an_address_where_nothing_answers_is_told_with_its_cure() -> None:
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(UnreachableError, match="dataaggregator up"):
            await client.get("/api/things")
