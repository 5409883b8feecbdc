"""The gateway over HTTP before auth and a small service that stands where the scheduler would."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict, SecretStr

from dataaggregator.bus import EmbeddedBus, emit
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.contracts.run import RunStanding
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.errors import NotFound
from dataaggregator.host import Host
from dataaggregator.http.answer import Answer, StreamAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.ids import new_id
from dataaggregator.limits import Limits
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.permissions import Permission
from dataaggregator.ports import Ports
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings
from services.auth.app import build as build_auth
from services.gateway.app import build as build_gateway

ADMIN = ("admin@example.org", "the admin's password")


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def now(self) -> datetime:
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclass
class Upstream:
    """A service named scheduler: says what it was sent, counts what it did, and breaks when it is told to."""

    started: int = 0
    ids: list[str] = field(default_factory=list)
    """What each start was asked for under."""
    runs: dict[str, str] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    holding: asyncio.Event = field(default_factory=asyncio.Event)

    def service(self) -> Service:
        read, operate, write = Permission.RUNS_READ, Permission.RUNS_OPERATE, Permission.DEFINITIONS_WRITE
        any_answer: dict[int, type[BaseModel] | None] = {200: Anything}
        big = 64 * 1024 * 1024
        return Service(
            name="scheduler",
            routes=[
                Route("GET", "/api/pipelines", self.echo, "say", "t", read, query=Anything, answers=any_answer),
                Route(
                    "POST",
                    "/api/pipelines",
                    self.take,
                    "take",
                    "t",
                    write,
                    body=Anything,
                    answers=any_answer,
                    max_body_bytes=big,
                ),
                Route("GET", "/api/pipelines/{pipeline}", self.stream, "stream", "t", read),
                Route(
                    "POST",
                    "/api/pipelines/{pipeline}/runs",
                    self.start,
                    "start",
                    "t",
                    operate,
                    body=Anything,
                    body_optional=True,
                    answers={202: Anything},
                ),
                Route(
                    "GET", RunStanding.path("{run:id}"), self.run, "run", "t", None, answers=any_answer, internal=True
                ),
            ],
        )

    async def echo(self, call: Call) -> Answer:
        return Answer(
            {"headers": dict(call.headers), "query": call.request.query_string, "remote": call.request.remote}
        )

    async def take(self, call: Call) -> Answer:
        return Answer({"bytes": len(call.raw_body)}, headers={"Connection": "X-Gone", "X-Gone": "1", "X-Kept": "1"})

    async def stream(self, call: Call) -> Answer:
        async def write(response: web.StreamResponse) -> None:
            for number in range(3):
                await response.write(b"%d\n" % number)
                self.holding.set()
                if self.hold is not None:
                    await self.hold.wait()
                    self.hold.clear()
            if call.path["pipeline"] == "torn":
                assert call.request.transport is not None
                call.request.transport.abort()

        kind = "text/event-stream" if call.path["pipeline"] == "endless" else "text/plain"
        return StreamAnswer(write=write, content_type=kind)

    async def start(self, call: Call) -> Answer:
        self.started += 1
        self.ids.append(str(call.idempotency_id))
        if call.path["pipeline"] == "cut":
            assert call.request.transport is not None
            call.request.transport.abort()
        if call.path["pipeline"] == "broken":
            raise RuntimeError("a bug")
        if self.hold is not None:
            self.holding.set()
            await self.hold.wait()
        padding = {"padding": "x" * 2000} if call.path["pipeline"] == "large" else {}
        return Answer(
            {"number": self.started, **padding}, status=202, headers={"Location": f"/api/runs/{self.started}"}
        )

    async def run(self, call: Call) -> Answer:
        if self.hold is not None:
            await self.hold.wait()
        if call.path["run"] not in self.runs:
            raise NotFound("run-not-found", "There is no such run.")
        return Answer({"status": self.runs[call.path["run"]]})


@dataclass
class Sent:
    """One server-sent event as a client reads it; `id` None where it has none."""

    id: str | None
    event: str | None
    data: dict[str, Any]


@dataclass
class Platform:
    """The platform as a client sees it, and the ways of a test behind it."""

    url: str
    http: aiohttp.ClientSession
    clock: SetClock
    ports: Ports
    upstream: Upstream
    token: str = ""
    workspace: UUID = PLATFORM_WORKSPACE
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Where each service answers callers."""

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = self.token if token is None else token
        if bearer:
            given["Authorization"] = f"Bearer {bearer}"
        data = None if body is None else BytesIO(orjson.dumps(body))
        if data is not None:
            given["Content-Type"] = "application/json"
        async with self.http.request(method, f"{self.url}{path}", data=data, headers=given) as answer:
            raw = await answer.read()
            told = orjson.loads(raw) if raw and "json" in answer.headers.get("Content-Type", "") else raw
            return answer.status, told, answer.headers

    async def login(self, email: str = ADMIN[0], password: str = ADMIN[1]) -> str:
        status, pair, _ = await self.call("POST", "/api/auth/login", {"email": email, "password": password}, token="")
        assert status == 200, pair
        return str(pair["access_token"])

    async def say(self, message: Message, subject: str, workspace: UUID | None = None) -> None:
        """Let an event happen, committed like any service's."""
        async with self.ports.database.platform() as tx:
            place = self.workspace if workspace is None else workspace
            await emit(tx, "auth", message, subject=subject, workspace=place, source="auth")

    @asynccontextmanager
    async def events(
        self, path: str = "/api/events", last_id: str | None = None, token: str | None = None
    ) -> AsyncIterator[AsyncIterator[Sent]]:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        async with self.http.get(f"{self.url}{path}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            await answer.content.readuntil(b"\n\n")
            yield _events(answer.content)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Sent]:
    """The events of a stream; comments are passed over."""
    fields: dict[str, str] = {}
    async for raw in content:
        line = raw.decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Sent(fields.get("id"), fields.get("event"), orjson.loads(fields["data"]))
            fields = {}


async def take(events: AsyncIterator[Sent], count: int, seconds: float = 20) -> list[Sent]:
    """The next `count` events."""
    async with asyncio.timeout(seconds):
        return [await anext(events) for _ in range(count)]


@pytest.fixture
def platform_settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "gateway_port": 0,
            "bootstrap_admin_email": ADMIN[0],
            "bootstrap_admin_password": SecretStr(ADMIN[1]),
            "cors_origins": ("http://console.example",),
            "stop_seconds": 2.0,
        }
    )


@asynccontextmanager
async def started(
    settings: Settings, limits: Limits | None = None, addresses: Mapping[str, tuple[str, int]] | None = None
) -> AsyncIterator[Platform]:
    """Auth, the upstream and the gateway, from start to stop; the administrator is logged in."""
    assert settings.database_url is not None
    assert settings.secret_key is not None
    clock, upstream = SetClock(), Upstream()
    database = Database(settings.database_url.get_secret_value(), settings)
    ports = Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=limits or InProcessLimits(settings.rates()),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing(settings.secret_key.get_secret_value()),
        clock=clock,
    )
    services = [build_auth(ports), upstream.service(), build_gateway(ports)]
    host = Host(services, ports, addresses=addresses, handle_signals=False)
    async with host, aiohttp.ClientSession() as http:
        platform = Platform(ports.directory.url("gateway"), http, clock, ports, upstream, addresses=host.addresses)
        platform.token = await platform.login()
        _, me, _ = await platform.call("GET", "/api/auth/me")
        platform.workspace = UUID(me["default_workspace_id"])
        yield platform


@pytest.fixture
async def platform(platform_settings: Settings) -> AsyncIterator[Platform]:
    async with started(platform_settings) as platform:
        yield platform


@pytest.fixture
def unknown() -> str:
    """An id that nothing has."""
    return str(new_id())
