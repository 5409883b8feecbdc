"""Auth over HTTP: the service in a host of its own, on a clock that the test sets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from dataaggregator.bus import EmbeddedBus
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.host import Host
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocations
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings
from services.auth.app import build

ADMIN = ("admin@example.org", "the admin's password")


class SetClock:
    """A clock that stands still until it is moved; it begins at the real time, because signatures look at it too."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def now(self) -> datetime:
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass
class Api:
    """Auth as a client sees it."""

    url: str
    http: aiohttp.ClientSession
    clock: SetClock
    database: Database
    ports: Ports
    tokens: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Status, body and headers of an answer; header names are written with _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        async with self.http.request(method, f"{self.url}{path}", json=body, headers=given) as answer:
            told = await answer.json(content_type=None) if await answer.read() else None
            return answer.status, told, answer.headers

    async def login(self, email: str = ADMIN[0], password: str = ADMIN[1]) -> dict[str, Any]:
        status, pair, _ = await self.call("POST", "/api/auth/login", {"email": email, "password": password})
        assert status == 200, pair
        return dict(pair)

    async def token(self, email: str = ADMIN[0], password: str = ADMIN[1]) -> str:
        return str((await self.login(email, password))["access_token"])

    async def user(self, name: str, role: str = "viewer", *, token: str, **more: object) -> dict[str, Any]:
        body = {"email": f"{name}@example.org", "password": f"{name}'s password", "role": role, **more}
        status, user, _ = await self.call("POST", "/api/users", body, token=token)
        assert status == 201, user
        return dict(user)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def auth_settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"bootstrap_admin_email": ADMIN[0], "bootstrap_admin_password": SecretStr(ADMIN[1])}
    )


@asynccontextmanager
async def started(
    settings: Settings, clock: SetClock, revocations: Revocations | None = None, directory: Directory | None = None
) -> AsyncIterator[Api]:
    """The service from its start to its stop, on the database the settings name."""
    assert settings.database_url is not None
    assert settings.secret_key is not None
    database = Database(settings.database_url.get_secret_value(), settings)
    ports = Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(settings.rates()),
        revocations=revocations or InProcessRevocations(clock),
        directory=directory or Directory(),
        keys=KeyRing(settings.secret_key.get_secret_value()),
        clock=clock,
    )
    async with Host([build(ports)], ports, handle_signals=False), aiohttp.ClientSession() as http:
        yield Api(ports.directory.url("auth"), http, clock, database, ports)


@pytest.fixture
async def api(auth_settings: Settings, clock: SetClock) -> AsyncIterator[Api]:
    async with started(auth_settings, clock) as api:
        yield api
