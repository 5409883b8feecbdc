"""An executor at work in a test: its neighbours, runs as the scheduler asks for them, and their ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from pydantic import BaseModel, SecretStr

from dataaggregator.bus import EmbeddedBus
from dataaggregator.client import Client
from dataaggregator.clock import SystemClock
from dataaggregator.contracts.run import RunQueued
from dataaggregator.dataplane.job import RunJob
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.errors import NotFound
from dataaggregator.host import Host
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.ids import new_id
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.ports import Ports
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings
from services.auth.app import build as build_auth
from services.executor import commands
from services.executor.app import build as build_executor
from services.executor.domain import has_ended
from services.executor.store import runs
from services.executor.store.runs import Run
from tests.templates import share_in


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


def a_job(definition: dict[str, Any], **changes: Any) -> RunJob:
    fields = {
        **{name: new_id() for name in ("run_id", "workspace_id", "pipeline_id")},
        "mask_key": "0f" * 32,
        "epoch": 1,
        "definition": definition,
        "connectors": {},
        "folder": "",
        "kept": "",
    }
    return RunJob.model_validate({**fields, **changes})


@dataclass
class Place:
    """An executor at work with its neighbours: real auth, and connectors' one route that it asks."""

    ports: Ports
    client: Client
    workspace: UUID
    connectors: dict[str, dict[str, Any]]
    services: Sequence[Service]

    def connect(self, connector_type: str, **config: Any) -> dict[str, str]:
        """A connector as a definition names it."""
        connector_id = str(new_id())
        self.connectors[connector_id] = {"type": connector_type, "config": config}
        return {"connector_id": connector_id, "connector_name": connector_type, "connector_type": connector_type}

    async def queue(self, **changes: Any) -> RunQueued:
        """Accept a run as if run.queued had come."""
        queued = a_run(**changes)
        async with self.ports.database.transaction(self.workspace) as tx:
            await commands.accept(tx, self.workspace, queued.run_id, queued.model_dump(mode="json"), None)
        return queued

    async def cancel(self, run_id: UUID | str) -> None:
        async with self.ports.database.transaction(self.workspace) as tx:
            await commands.request_cancel(tx, self.workspace, UUID(str(run_id)), self.ports.clock.now())

    async def run_now(self, run_id: UUID | str) -> Run:
        async with self.ports.database.transaction(self.workspace) as tx:
            return await runs.get(tx, self.workspace, UUID(str(run_id)))

    async def ended(self, run_id: UUID | str, within_seconds: float = 60.0) -> Run:
        """The run when it has ended."""
        deadline = time.monotonic() + within_seconds
        while not has_ended((run := await self.run_now(run_id)).status):
            assert time.monotonic() < deadline, f"the run is still {run.status}: {await self.said(run_id)}"
            await asyncio.sleep(0.05)
        return run

    async def said(self, run_id: UUID | str) -> list[str]:
        """The types of the events said about a run, in their order."""
        async with self.ports.database.platform() as tx:
            rows = await tx.fetch("SELECT type FROM executor.outbox WHERE subject = $1 ORDER BY sequence", str(run_id))
        return [row["type"].removeprefix("run.").removesuffix(".v1") for row in rows]

    async def error(self, run_id: UUID | str) -> str | None:
        """The code of the run's error."""
        found = await self._error(run_id)
        return None if found is None else found["code"]

    async def error_detail(self, run_id: UUID | str) -> str:
        """What a failing test shows: the run's error and the end of its log."""
        lines = await self.client.get(f"/api/runs/{run_id}/logs", limit=500)
        return f"{await self._error(run_id)}\n{lines['items'][-5:]}"

    async def _error(self, run_id: UUID | str) -> dict[str, Any] | None:
        async with self.ports.database.platform() as tx:
            found: dict[str, Any] | None = await tx.fetchval(
                "SELECT error FROM executor.runs WHERE run_id = $1::uuid", run_id
            )
        return found


class Wanted(BaseModel):
    connector_ids: list[str]


class Opened(BaseModel):
    connectors: dict[str, dict[str, Any]]


def stand_in_for_connectors(known: dict[str, dict[str, Any]]) -> Service:
    async def resolve(call: Call) -> Answer:
        wanted = call.body_as(Wanted).connector_ids
        missing = [found for found in wanted if found not in known]
        if missing:
            raise NotFound("not-found", f"There is no connector {missing[0]}.")
        return Answer({"connectors": {found: known[found] for found in wanted}})

    route = Route(
        "POST",
        "/internal/connectors/resolve",
        resolve,
        "Open",
        "internal",
        None,
        body=Wanted,
        answers={200: Opened},
        internal=True,
    )
    return Service("connectors", [route])


SECRET_KEY = "only-for-tests-only-for-tests-only-for-tests"
EMAIL, PASSWORD = "ada@example.org", "correct horse battery staple"


@asynccontextmanager
async def open_place(
    settings: Settings, *, working: bool, connectors: dict[str, dict[str, Any]] | None = None
) -> AsyncIterator[Place]:
    """`connectors` are those that are there from the start, as for a second executor after a first."""
    changed = {
        "bootstrap_admin_email": EMAIL,
        "bootstrap_admin_password": SecretStr(PASSWORD),
        "files_allowed_roots": (settings.home,),
        "egress_allow": ("127.0.0.0/8",),
    }
    settings, clock, connectors = settings.model_copy(update=changed), SystemClock(), connectors or {}
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
        keys=KeyRing(SECRET_KEY),
        clock=clock,
    )
    executor = share_in(build_executor(ports))
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
            yield Place(ports, client, workspace, connectors, services)
