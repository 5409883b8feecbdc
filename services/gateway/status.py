"""Status: the whole platform at a glance, told also while half of it is broken."""

import asyncio
import platform
from importlib.metadata import version
from typing import Literal, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError

from dataaggregator.contracts import kernel
from dataaggregator.contracts.capacity import EXECUTORS_PATH, Capacity
from dataaggregator.contracts.kernel import KernelFacts
from dataaggregator.errors import PlatformError
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.health import Check, Readiness, check
from dataaggregator.http.parked import BACKLOG, BacklogStatus
from dataaggregator.http.route import Route
from dataaggregator.ports import Ports

from .circuit import State
from .forward import Upstreams
from .routing import SERVICES

ASK_SECONDS = 3.0

M = TypeVar("M", bound=BaseModel)


Readable = Literal["ready", "not_ready", "unreachable"]


class ServiceStatus(BaseModel):
    name: str
    status: Readable
    circuit: State = Field(
        description="Whether the gateway that was asked sends calls to it: `open` is not for a moment, after several "
        "that got no answer; `half_open` is one to try."
    )
    checks: list[Check]


class PlatformStatus(BaseModel):
    """`ok`: all works; `degraded`: something does not; `down`: no work can be taken."""

    status: Literal["ok", "degraded", "down"]
    services: list[ServiceStatus]
    database: Check
    bus: Check
    limits: Check
    backlog: list[BacklogStatus] | None = Field(description="Null while the database does not answer.")
    sandbox: KernelFacts | None = Field(
        description="What the kernel of the executor that was asked gives; null while none answers."
    )
    capacity: Capacity | None = Field(
        description="The executors, and what waits for labels that none of them has; null while none answers."
    )
    versions: dict[str, str]


class StatusApi:
    """The route of the status."""

    def __init__(self, ports: Ports, upstreams: Upstreams, services: ServiceClient) -> None:
        self._ports = ports
        self._upstreams = upstreams
        self._services = services

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/api/status",
                self.status,
                "How the whole platform is",
                "health",
                None,
                answers={200: PlatformStatus},
                description="Needs no token, so that it can be asked while nobody can log in.",
            )
        ]

    async def status(self, _: Call) -> Answer:
        (database, bus, limits), services, sandbox, capacity = await asyncio.gather(
            asyncio.gather(check(self._ports.database), check(self._ports.bus), check(self._ports.limits)),
            asyncio.gather(*(self._service(name) for name in SERVICES)),
            self._of_executor(kernel.PATH, KernelFacts),
            self._of_executor(EXECUTORS_PATH, Capacity),
        )
        waiting = await asyncio.gather(*(self._backlog_of(name) for name in SERVICES)) if database.ok else None
        ready = [service.status == "ready" for service in services]
        if not database.ok or not any(ready):
            overall: Literal["ok", "degraded", "down"] = "down"
        else:
            well = all(ready) and all(one.ok for service in services for one in service.checks)
            well = well and sandbox is not None and sandbox.sound
            overall = "ok" if bus.ok and limits.ok and well else "degraded"
        told = PlatformStatus(
            status=overall,
            services=services,
            database=database,
            bus=bus,
            limits=limits,
            backlog=None if waiting is None else [one for one in waiting if one is not None],
            sandbox=sandbox,
            capacity=capacity,
            versions={"dataaggregator": version("dataaggregator"), "python": platform.python_version()},
        )
        return Answer(told, headers={"Cache-Control": "no-store"})

    async def _service(self, name: str) -> ServiceStatus:
        """What a service says of itself; silence is an answer too."""
        try:
            fetched = await self._upstreams.get(name, "/health/ready", {}, ASK_SECONDS)
            said = Readiness.model_validate(orjson.loads(fetched.body))
        except (PlatformError, orjson.JSONDecodeError, ValidationError) as error:
            detail = error.detail if isinstance(error, PlatformError) else "It answers nonsense."
            silent = Check(name=name, ok=False, detail=detail, code="service-unavailable", help=None)
            return self._told(name, "unreachable", [silent])
        return self._told(name, "ready" if said.status == "ready" else "not_ready", said.checks)

    def _told(self, name: str, status: Readable, checks: list[Check]) -> ServiceStatus:
        return ServiceStatus(name=name, status=status, circuit=self._upstreams.state(name), checks=checks)

    async def _backlog_of(self, name: str) -> BacklogStatus | None:
        """As the service counts it; None for one that does not answer."""
        try:
            return BacklogStatus.model_validate(await self._services.get(name, BACKLOG, timeout_seconds=ASK_SECONDS))
        except (PlatformError, ValidationError):
            return None

    async def _of_executor(self, path: str, model: type[M]) -> M | None:
        """What the executor that was asked tells; None while none answers."""
        try:
            return model.model_validate(await self._services.get("executor", path, timeout_seconds=ASK_SECONDS))
        except (PlatformError, ValidationError):
            return None
