"""Alive, ready, metrics and the own document: what every service serves about itself."""

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel

from dataaggregator.catalogue import help_section
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.http.answer import Answer, TextAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.resource import Resource
from dataaggregator.telemetry import logs, metrics
from dataaggregator.telemetry.redaction import mask_text

_PING_SECONDS = 2

log = logs.get(__name__)


class Alive(BaseModel):
    """The service's loop turns."""

    status: str


class Check(BaseModel):
    """One need of a service, and why it cannot be used."""

    name: str
    ok: bool
    detail: str | None = None
    code: str | None = None
    help: str | None = None


class Readiness(BaseModel):
    """``ready`` or ``not_ready``, and everything that was asked; without the bus a service still takes work."""

    status: str
    checks: list[Check]


async def live(_call: Call) -> Answer:
    """Being able to answer is the whole proof."""
    return Answer(_ALIVE)


_ALIVE = Alive(status="alive")


async def check(need: Resource) -> Check:
    """Ask one need whether it can be used, and give it two seconds."""
    try:
        async with asyncio.timeout(_PING_SECONDS):
            await need.ping()
    except TimeoutError:
        error: PlatformError = Transient("service-unavailable", f"No answer within {_PING_SECONDS} seconds.")
    except PlatformError as refused:
        error = refused
    except Exception as bug:
        log.bug("ping_failed", bug, need=need.name)
        error = Transient("internal-error", f"The check itself failed: {type(bug).__name__}.")
    else:
        return Check(name=need.name, ok=True)
    detail = mask_text(error.detail)
    return Check(name=need.name, ok=False, detail=detail, code=error.code, help=help_section(error.code))


def readiness(needs: Sequence[Resource], wants: Sequence[Resource] = ()) -> Route:
    """GET /health/ready over a service's own needs; what it can do without for a while is told and not counted."""

    async def ready(_call: Call) -> Answer:
        needed, wanted = await asyncio.gather(_ask(needs), _ask(wants))
        ok = all(found.ok for found in needed)
        told = Readiness(status="ready" if ok else "not_ready", checks=[*needed, *wanted])
        return Answer(told, 200 if ok else 503)

    return Route(
        "GET", "/health/ready", ready, "Can the service do its work?", "health", None,
        answers={200: Readiness, 503: Readiness},
    )  # fmt: skip


async def _ask(resources: Sequence[Resource]) -> list[Check]:
    return list(await asyncio.gather(*(check(resource) for resource in resources)))


async def exposition(_call: Call) -> Answer:
    """Prometheus' text format."""
    return TextAnswer(text=metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def routes(needs: Sequence[Resource], wants: Sequence[Resource] = ()) -> list[Route]:
    """What every service serves beside its own routes."""
    return [
        Route("GET", "/health/live", live, "Is the service alive?", "health", None, answers={200: Alive}),
        readiness(needs, wants),
        Route("GET", "/metrics", exposition, "Metrics for Prometheus", "health", None, produces=("text/plain",)),
    ]
