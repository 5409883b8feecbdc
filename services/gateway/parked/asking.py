"""Parked, asking: every service is asked for its own, because nobody reads another service's schema."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from dataaggregator.errors import NotFound, Permanent, PlatformError, Transient
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.parked import PARKED, ParkedEvent, ParkedItem, ParkedItems, ReplayedBy
from dataaggregator.telemetry import logs
from services.gateway.routing import SERVICES

ASK_SECONDS = 5.0

T = TypeVar("T")

log = logs.get("gateway")


@dataclass(frozen=True)
class Asked:
    """Whose events, and of which service only (None: of all)."""

    workspaces: Sequence[UUID]
    service: str | None = None


@dataclass(frozen=True)
class Found(Generic[T]):
    """What was answered, and the services that did not answer."""

    answers: Sequence[T]
    unanswered: Sequence[str]


class Parked:
    """Asks the services; raises Transient when none of them answers."""

    def __init__(self, services: ServiceClient) -> None:
        self._services = services

    async def list(
        self, asked: Asked, *, kind: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ParkedItem], Sequence[str]]:
        """Newest first over all services asked; the services that did not answer."""
        query = (
            {"limit": limit} | ({} if kind is None else {"type": kind}) | ({} if cursor is None else {"cursor": cursor})
        )

        async def ask(service: str, workspace: UUID) -> ParkedItems:
            path = f"{PARKED}?{urlencode(query)}"
            return ParkedItems.model_validate(await self._get(service, path, workspace))

        found = await _each(asked, ask)
        items = [item for page in found.answers for item in page.items]
        items.sort(key=lambda item: (item.parked_at, item.id, item.service), reverse=True)
        return items[:limit], found.unanswered

    async def show(self, asked: Asked, event_id: UUID) -> Found[ParkedEvent]:
        """The event in every service that set it aside; NotFound if none of them did."""

        async def ask(service: str, workspace: UUID) -> ParkedEvent:
            return ParkedEvent.model_validate(await self._get(service, f"{PARKED}/{event_id}", workspace))

        return _there(await _each(asked, ask), event_id)

    async def replay(self, asked: Asked, event_id: UUID, by: ReplayedBy) -> Found[str]:
        """The services that let it try again; NotFound if none of them had set it aside."""

        async def ask(service: str, workspace: UUID) -> str:
            path = f"{PARKED}/{event_id}/replay"
            await self._services.post(service, path, by, workspace=workspace, timeout_seconds=ASK_SECONDS)
            return service

        return _there(await _each(asked, ask), event_id)

    async def _get(self, service: str, path: str, workspace: UUID) -> dict[str, object]:
        return await self._services.get(service, path, workspace=workspace, timeout_seconds=ASK_SECONDS)


async def _each(asked: Asked, ask: Callable[[str, UUID], Awaitable[T]]) -> Found[T]:
    """Ask all at once; that something is not there is an answer too."""
    names = SERVICES if asked.service is None else (asked.service,)
    wanted = [(name, workspace) for name in names for workspace in asked.workspaces]
    told = await asyncio.gather(*(ask(*one) for one in wanted), return_exceptions=True)
    answers: list[T] = []
    silent: list[str] = []
    for (name, _), answer in zip(wanted, told, strict=True):
        if isinstance(answer, Transient | Permanent):
            log.warning("parked_not_told", asked=name, code=answer.code, reason=answer.detail)
            silent.append(name)
        elif isinstance(answer, PlatformError):
            if not isinstance(answer, NotFound):
                raise answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answers.append(answer)
    unanswered = tuple(dict.fromkeys(silent))
    if len(silent) == len(wanted):
        raise Transient(
            "service-unavailable", f"No answer from {', '.join(unanswered)}; try again soon.", retry_after=2
        )
    return Found(answers, unanswered)


def _there(found: Found[T], event_id: UUID) -> Found[T]:
    """Something was found; raises NotFound, or Transient while it may be with a service that does not answer."""
    if not found.answers and found.unanswered:
        asked = ", ".join(found.unanswered)
        raise Transient("service-unavailable", f"No answer from {asked}; nobody else set it aside.", retry_after=2)
    if not found.answers:
        raise NotFound("not-found", f"No event {event_id} is set aside.")
    return found
