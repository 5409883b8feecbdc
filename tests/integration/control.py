"""A small platform for tests of the control plane: scheduler and connectors for real, and who speaks with them.

The executor's side is spoken by the test: its outbox and relay are real, what it says is the test's choice. `auth` is a
signing key with its JWKS. Every answer is held against the service's own document.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from dataaggregator.bus import EmbeddedBus, Handler, emit, ephemeral
from dataaggregator.clock import SystemClock
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.capacity import WAITING_PATH, WaitingRuns, WaitingWish
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.run import (
    RunCancelRequested,
    RunCounts,
    RunProgressed,
    RunQueued,
    RunStarted,
    RunSucceeded,
)
from dataaggregator.db import Connection, Database
from dataaggregator.directory import Directory
from dataaggregator.errors import Permanent
from dataaggregator.host import Host
from dataaggregator.http.agreement import validate_answer
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
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
from services.connectors import app as connectors
from services.scheduler import app as scheduler

WORKSPACE = new_id()
OTHER_WORKSPACE = new_id()
DEADLINE_SECONDS = 15.0


class Keys(BaseModel):
    keys: list[dict[str, str]]


class Told(BaseModel):
    """What a probe answers: anything."""

    model_config = {"extra": "allow"}


@dataclass
class Issuer:
    """Stands where auth does."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    user: UUID = field(default_factory=new_id)

    def service(self) -> Service:
        public = orjson.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.key.public_key()))

        async def jwks(_call: Call) -> Answer:
            return Answer({"keys": [{**public, "kid": "k1", "alg": "EdDSA", "use": "sig"}]})

        return Service(
            "auth", [Route("GET", "/api/auth/jwks.json", jwks, "Keys", "identity", None, answers={200: Keys})]
        )

    def token(self, role: Role, workspace: UUID) -> str:
        now = int(SystemClock().now().timestamp())
        claims = {
            "iss": "dataaggregator",
            "aud": "dataaggregator",
            "sub": str(self.user),
            "iat": now,
            "exp": now + 1800,
            "jti": str(new_id()),
            "fam": "family-1",
            "email": "ada@example.org",
            "ws": [{"id": str(workspace), "name": "default", "role": str(role)}],
            "dws": str(workspace),
        }
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "k1"})


@dataclass
class SpokenExecutor:
    """The executor as the test speaks it; `probe` answers /internal/probe, and what was asked is kept."""

    database: Database
    queued: list[RunQueued] = field(default_factory=list)
    cancelled: list[UUID] = field(default_factory=list)
    probed: list[Mapping[str, Any]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    waits_asked: int = 0

    def service(self) -> Service:
        route = Route(
            "POST", "/internal/probe", self._probe, "Probe", "internal", None, body=Told, answers={200: Told},
            problems=(502,), internal=True,
        )  # fmt: skip
        waits = Route(
            "POST", WAITING_PATH, self._waits, "What runs wait for", "internal", None, body=WaitingWish,
            answers={200: WaitingRuns}, internal=True,
        )  # fmt: skip
        handlers = [Handler("executor", RunQueued, self._queued), Handler("executor", RunCancelRequested, self._cancel)]
        return Service("executor", [route, waits], handlers=handlers, schema="executor")

    async def say(self, message: Message, run_id: object) -> None:
        async with self.database.transaction(WORKSPACE) as tx:
            await emit(tx, "executor", message, subject=str(run_id), workspace=WORKSPACE, source="executor")

    async def _queued(self, event: Event, _tx: Connection) -> None:
        self.queued.append(event.read(RunQueued))

    async def _cancel(self, event: Event, _tx: Connection) -> None:
        self.cancelled.append(event.read(RunCancelRequested).run_id)

    async def _waits(self, _: Call) -> Answer:
        self.waits_asked += 1
        return Answer(WaitingRuns(runs={}))

    async def _probe(self, call: Call) -> Answer:
        asked = call.body_as(Told).model_dump()
        self.probed.append(asked)
        answer = self.answers.get(asked["probe"])
        if answer is None:
            raise Permanent("connector-unreachable", "The probe was given nothing to say.")
        return Answer(answer)


@dataclass
class Reply:
    """An answer, read."""

    status: int
    headers: Mapping[str, str]
    json: Any

    @property
    def fields(self) -> dict[str, str]:
        """Wrong field → its code."""
        return {wrong["field"]: wrong["code"] for wrong in self.json.get("errors", [])}


@dataclass
class Control:
    """The running platform, and a caller of it."""

    ports: Ports
    issuer: Issuer
    executor: SpokenExecutor
    services: ServiceClient
    session: aiohttp.ClientSession
    documents: Mapping[str, Any]
    workspace: UUID = WORKSPACE

    async def call(self, method: str, path: str, json: Any = None, **options: Any) -> Reply:
        role, workspace = options.pop("role", Role.ADMIN), options.pop("workspace", self.workspace)
        service = "connectors" if path.startswith("/api/connector") else "scheduler"
        headers = {"Authorization": f"Bearer {self.issuer.token(role, workspace)}", **options.pop("headers", {})}
        if method == "PATCH":
            headers.setdefault("Content-Type", "application/merge-patch+json")
        data = None if json is None else orjson.dumps(json)
        headers.setdefault("Content-Type", "application/json")
        url = self.ports.directory.url(service) + path
        async with self.session.request(method, url, data=data, headers=headers, **options) as response:
            raw = await response.read()
            validate_answer(
                self.documents[service], method, response.url.raw_path, response.status, raw, headers=response.headers
            )
            return Reply(response.status, response.headers.copy(), orjson.loads(raw) if raw else None)

    async def good(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """The body of an answer that must be a good one."""
        reply = await self.call(method, path, json, **options)
        assert reply.status < 300, reply.json
        return reply.json

    async def connector(self, name: str = "warehouse") -> dict[str, Any]:
        body = {"name": name, "type": "postgres", "config": {"host": "db.example.org", "password": "geheim"}}
        made: dict[str, Any] = await self.good("POST", "/api/connectors", body)
        return made

    async def pipeline(self, name: str = "copy", **changes: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.good("POST", "/api/pipelines", a_pipeline(name, **changes))
        return made

    async def run_is(self, id_: str, *statuses: str) -> dict[str, Any]:
        """The run as soon as it is in one of these states."""

        async def look() -> dict[str, Any] | None:
            run: dict[str, Any] = await self.good("GET", f"/api/runs/{id_}")
            return run if run["status"] in statuses else None

        found: dict[str, Any] = await until(look, f"run {id_} to be {statuses}")
        return found

    async def start(self, run: Mapping[str, Any], attempt: int = 1) -> None:
        told = RunStarted(
            run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=attempt, executor="e1",
            started_at=SystemClock().now(),
        )  # fmt: skip
        await self.executor.say(told, run["id"])

    async def succeed(self, run: Mapping[str, Any], **told: Any) -> None:
        message = RunSucceeded(
            run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=SystemClock().now(),
            counts=RunCounts(rows_read=3, rows_written=2, rows_filtered=1), balanced=True, **told,
        )  # fmt: skip
        await self.executor.say(message, run["id"])

    async def progress(self, run: Mapping[str, Any], share: float, attempt: int = 1) -> None:
        told = RunProgressed(
            run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=attempt, progress=share, rows_read=7
        )
        await self.ports.bus.publish_ephemeral(
            ephemeral(told, subject=run["id"], workspace=WORKSPACE, source="executor")
        )


def a_pipeline(name: str = "copy", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "sources": {"flights": {"connector": "warehouse", "stream": "public.flights"}},
        "destinations": [{"connector": "warehouse", "stream": "marts.flights", "write": "append"}],
        **changes,
    }


async def until(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What `look` gives as soon as it is neither None nor false."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not (found := await look()):
        assert asyncio.get_running_loop().time() < deadline, f"waited for {what}"
        await asyncio.sleep(0.02)
    return found


def ports_of(settings: Settings, database_url: str) -> Ports:
    database, clock = Database(database_url, settings), SystemClock()
    return Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(settings.rates()),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing("only-for-tests-only-for-tests-only-for-tests"),
        clock=clock,
    )


async def control_platform(
    settings: Settings, database_url: str, held: AsyncExitStack, real_executor: Callable[[Ports], Service] | None = None
) -> Control:
    """The platform, running until `held` closes; with the real executor if it is given."""
    ports = ports_of(settings.model_copy(update={"tick_seconds": 0.1, "stop_seconds": 2.0}), database_url)
    issuer, executor = Issuer(), SpokenExecutor(ports.database)
    built = [scheduler.build(ports), connectors.build(ports)]
    at_work = real_executor(ports) if real_executor else executor.service()
    await held.enter_async_context(Host([issuer.service(), at_work, *built], ports, handle_signals=False))
    client = ServiceClient(ports, "executor")
    await client.open()
    held.push_async_callback(client.close)
    session = await held.enter_async_context(aiohttp.ClientSession())
    return Control(ports, issuer, executor, client, session, _documents(built))


_DOCUMENTS: dict[str, dict[str, Any]] = {}


def _documents(services: Iterable[Service]) -> dict[str, dict[str, Any]]:
    """What each says of its routes; it takes a while to write and is the same in every platform of a test run."""
    for service in services:
        if service.name not in _DOCUMENTS:
            _DOCUMENTS[service.name] = document(service.routes, service.name)
    return {service.name: _DOCUMENTS[service.name] for service in services}
