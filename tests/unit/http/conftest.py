"""A service of a few routes on a real port, and tokens to call it with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from dataaggregator.bus import EmbeddedBus
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.http import server
from dataaggregator.http.agreement import validate_answer
from dataaggregator.http.answer import Answer
from dataaggregator.http.app import make_app
from dataaggregator.http.health import routes as health_routes
from dataaggregator.http.openapi import document
from dataaggregator.http.route import Route
from dataaggregator.ids import new_id
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.permissions import Role
from dataaggregator.ports import Ports
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings


class Keys(BaseModel):
    """A JWKS."""

    keys: list[dict[str, str]]


USER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
WORKSPACE = UUID("01890a5d-ac96-774b-bcce-b302099a8058")


@dataclass
class SetClock:
    """A clock that stands until it is moved."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Issuer:
    """Stands where auth does: a signing key, its JWKS, tokens."""

    clock: SetClock
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    key_id: str = "k1"

    def jwks(self) -> dict[str, Any]:
        public = orjson.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": self.key_id, "alg": "EdDSA", "use": "sig"}]}

    def claims(self, role: Role | None = Role.ADMIN, **changed: Any) -> dict[str, Any]:
        now = self.clock.now()
        workspaces = [] if role is None else [{"id": str(WORKSPACE), "name": "default", "role": str(role)}]
        claims = {
            "iss": "dataaggregator",
            "aud": "dataaggregator",
            "sub": str(USER),
            "iat": int(now.timestamp()),
            "exp": int(now.timestamp()) + 1800,
            "jti": str(new_id()),
            "fam": "family-1",
            "email": "ada@example.org",
            "ws": workspaces,
            "dws": str(WORKSPACE) if role else None,
        }
        return {name: value for name, value in {**claims, **changed}.items() if value is not ...}

    def token(self, role: Role | None = Role.ADMIN, **changed: Any) -> str:
        return self.signed(self.claims(role, **changed))

    def signed(self, claims: Mapping[str, Any], **header: Any) -> str:
        return jwt.encode(dict(claims), self.key, algorithm="EdDSA", headers={"kid": self.key_id, **header})


@dataclass
class Reply:
    """An answer, read."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)


@dataclass
class Client:
    """Calls one service; every answer is held against its document."""

    url: str
    session: aiohttp.ClientSession
    document: Mapping[str, Any]
    token: str | None

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        headers = dict(options.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            reply = Reply(response.status, response.headers.copy(), await response.read())
            validate_answer(
                self.document, method, response.url.raw_path, response.status, reply.raw, headers=response.headers
            )
        return reply

    async def raw(self, request: bytes) -> bytes:
        """Send bytes as they are, read until the other side closes."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(5):
            answered = await reader.read()
        writer.close()
        return answered


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def issuer(clock: SetClock) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def plain_ports(clock: SetClock) -> Ports:
    """Ports whose database and bus are never opened."""
    settings = Settings()
    database = Database("postgresql://nobody@127.0.0.1:1/none", settings)
    return Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(settings.rates()),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing("a made-up secret key of more than 32 characters"),
        clock=clock,
    )


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve(plain_ports: Ports, issuer: Issuer) -> AsyncIterator[Serve]:
    """``await serve(routes)``: a service of these routes, called as an administrator; auth's JWKS is at hand."""
    async with AsyncExitStack() as held:

        async def listen(service: Service) -> str:
            listener = server.Listener(make_app(service, plain_ports), server.bind("127.0.0.1", 0), 1)
            await listener.open()
            held.push_async_callback(listener.close)
            plain_ports.directory.put(service.name, listener.url)
            return listener.url

        async def jwks(_call: object) -> Answer:
            return Answer(issuer.jwks())

        jwks_route = Route("GET", "/api/auth/jwks.json", jwks, "Keys", "identity", None, answers={200: Keys})
        await listen(Service("auth", [jwks_route]))
        session = await held.enter_async_context(aiohttp.ClientSession(auto_decompress=True))

        async def start(routes: Sequence[Route], name: str = "trial", **parts: Any) -> Client:
            service = Service(name, routes, **parts)
            url = await listen(service)
            everything = document([*routes, *health_routes(service.needs)], name, internal=True)
            return Client(url, session, everything, issuer.token())

        yield start
