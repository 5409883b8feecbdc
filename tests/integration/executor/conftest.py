"""What the executor's tests share: a workspace, runs as the scheduler asks for them, and a look into what was said."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr

from dataaggregator.bus import EmbeddedBus
from dataaggregator.client import Client
from dataaggregator.clock import SystemClock
from dataaggregator.contracts.run import RunQueued
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.errors import NotFound
from dataaggregator.host import Host
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.ids import new_id
from dataaggregator.limits import InProcessLimits
from dataaggregator.ports import Ports
from dataaggregator.revocations import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings
from services.auth.app import build as build_auth
from services.executor import commands
from services.executor.app import build as build_executor
from services.executor.commands import Attempts
from services.executor.store import runs
from services.executor.store.runs import Run

Queue = Callable[..., Awaitable[RunQueued]]
OWNER: dict[str, object] = {"executor": "test"}


def a_definition(**changes: Any) -> dict[str, Any]:
    source = {"connector_id": str(new_id()), "connector_name": "files", "connector_type": "files", "stream": "a.csv"}
    destination = {
        "connector_id": str(new_id()),
        "connector_name": "warehouse",
        "connector_type": "postgres",
        "stream": "public.a",
        "input": "a",
    }
    return {"name": "copy-a", "sources": {"a": source}, "destinations": [destination], **changes}


def a_run(**changes: Any) -> RunQueued:
    fields = {
        "run_id": new_id(),
        "pipeline_id": new_id(),
        "pipeline_name": "copy-a",
        "pipeline_version": 1,
        "trigger": "manual",
        "definition": a_definition(),
        "queued_at": SystemClock().now(),
    }
    return RunQueued.model_validate({**fields, **changes})


@pytest.fixture
def workspace() -> UUID:
    return new_id()


@pytest.fixture
def queue(database: Database, workspace: UUID) -> Queue:
    """Accept a run as if run.queued had come."""

    async def accept(again: RunQueued | None = None, **changes: Any) -> RunQueued:
        queued = again or a_run(**changes)
        async with database.transaction(workspace) as tx:
            await commands.accept(tx, workspace, queued, None)
        return queued

    return accept


@pytest.fixture
def attempts(database: Database) -> Attempts:
    return Attempts(database, "test", 60.0)


@pytest.fixture
def claimed(queue: Queue, attempts: Attempts) -> Callable[..., Awaitable[Run]]:
    """A run that was accepted and claimed."""

    async def claim(**changes: Any) -> Run:
        queued = await queue(**changes)
        run = await attempts.claim(OWNER)
        assert run is not None
        assert run.run_id == queued.run_id
        return run

    return claim


@pytest.fixture
def run_now(database: Database, workspace: UUID) -> Callable[[UUID], Awaitable[Run]]:
    """The run as it is stored."""

    async def get(run_id: UUID) -> Run:
        async with database.transaction(workspace) as tx:
            return await runs.get(tx, workspace, run_id)

    return get


@pytest.fixture
def said(database: Database) -> Callable[[UUID], Awaitable[list[str]]]:
    """The types of the events said about a run, in their order."""

    async def types(run_id: UUID) -> list[str]:
        async with database.platform() as tx:
            rows = await tx.fetch("SELECT type FROM executor.outbox WHERE subject = $1 ORDER BY sequence", str(run_id))
        return [row["type"] for row in rows]

    return types


@dataclass
class Place:
    """An executor at work with its neighbours: real auth, and connectors' one route that it asks."""

    ports: Ports
    client: Client
    workspace: UUID
    connectors: dict[str, dict[str, Any]]


class Wanted(BaseModel):
    connector_ids: list[str]


def stand_in_for_connectors(known: dict[str, dict[str, Any]]) -> Service:
    async def resolve(call: Call) -> Answer:
        wanted = call.body_as(Wanted).connector_ids
        missing = [found for found in wanted if found not in known]
        if missing:
            raise NotFound("not-found", f"There is no connector {missing[0]}.")
        return Answer({"connectors": {found: known[found] for found in wanted}})

    route = Route("POST", "/internal/connectors/resolve", resolve, "Open", "internal", None, body=Wanted, internal=True)
    return Service("connectors", [route])


EMAIL, PASSWORD = "ada@example.org", "correct horse battery staple"


@asynccontextmanager
async def open_place(settings: Settings, *, working: bool) -> AsyncIterator[Place]:
    changed = {
        "bootstrap_admin_email": EMAIL,
        "bootstrap_admin_password": SecretStr(PASSWORD),
        "files_allowed_roots": (settings.home,),
        "egress_allow": ("127.0.0.0/8",),
    }
    settings, clock, connectors = settings.model_copy(update=changed), SystemClock(), dict[str, dict[str, Any]]()
    rates = {"api": settings.rate_limit_api, "login": settings.rate_limit_login, "run": settings.rate_limit_run}
    assert settings.database_url is not None
    database = Database(settings.database_url.get_secret_value(), settings)
    ports = Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(rates),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing("only-for-tests-only-for-tests-only-for-tests"),
        clock=clock,
    )
    executor = build_executor(ports)
    if not working:
        executor = replace(executor, loops=(), resources=())
    services = [build_auth(ports), executor, stand_in_for_connectors(connectors)]
    async with Host(services, ports, handle_signals=False):
        auth = ports.directory.url("auth")
        async with Client(auth) as door:
            token = (await door.post("/api/auth/login", {"email": EMAIL, "password": PASSWORD}))["access_token"]
        async with Client(auth, token=token) as me:
            workspace = UUID((await me.get("/api/auth/me"))["default_workspace_id"])
        async with Client(ports.directory.url("executor"), token=token) as client:
            yield Place(ports, client, workspace, connectors)


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[Place]:
    """The executor's routes with nothing at work behind them: a run stays as a test leaves it."""
    async with open_place(settings, working=False) as opened:
        yield opened


@pytest.fixture
async def workplace(settings: Settings) -> AsyncIterator[Place]:
    """The executor at work: runs that are queued are done."""
    quick = {"lease_seconds": 6.0, "heartbeat_seconds": 1.0, "fence_seconds": 4.0, "execution_timeout": 5.0}
    async with open_place(settings.model_copy(update=quick), working=True) as opened:
        yield opened
