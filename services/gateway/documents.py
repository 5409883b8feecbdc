"""Documents: the API of all services in one OpenAPI document."""

import asyncio
from collections.abc import Mapping
from typing import Any

from dataaggregator.clock import Clock
from dataaggregator.errors import PlatformError
from dataaggregator.http import openapi
from dataaggregator.http.client import ServiceClient

from .routing import SERVICES

FRESH_SECONDS = 60.0
ASK_SECONDS = 5.0


class Documents:
    """Keeps what each service last said, so that one that is down does not tear a hole into the document."""

    def __init__(self, services: ServiceClient, clock: Clock) -> None:
        self._services = services
        self._clock = clock
        self._known: dict[str, Mapping[str, Any]] = {}
        self._merged: dict[str, Any] | None = None
        self._asked_at = 0.0

    async def openapi(self) -> dict[str, Any]:
        now = self._clock.now().timestamp()
        complete = len(self._known) == len(SERVICES)
        if self._merged is None or not complete or now - self._asked_at >= FRESH_SECONDS:
            await asyncio.gather(*(self._ask(name) for name in SERVICES))
            self._merged = openapi.merge({name: self._known[name] for name in SERVICES if name in self._known})
            self._asked_at = now
        return self._merged

    async def _ask(self, name: str) -> None:
        try:
            self._known[name] = await self._services.get(name, "/internal/openapi.json", timeout_seconds=ASK_SECONDS)
        except PlatformError:
            return  # what it said before still stands; /api/status tells that it is down
