"""Webhooks, sending: one signed POST through the guard, with little patience and no trust in what comes back."""

import asyncio
import time
from collections.abc import Mapping
from importlib.metadata import version
from uuid import UUID

import aiohttp

from dataaggregator.connector.egress import Egress, EgressPolicy, workspaces_in
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.settings import Settings
from dataaggregator.telemetry.redaction import mask_text

from .domain import Attempt

SECONDS = 10.0
RESPONSE_BYTES = 1024
HEADERS = {
    "Content-Type": "application/cloudevents+json; charset=utf-8",
    "Accept-Encoding": "identity",
    "User-Agent": f"dataaggregator/{version('dataaggregator')}",
}


class Sending:
    """The way out to receivers; a resource of the gateway."""

    name = "webhooks"

    def __init__(self, settings: Settings) -> None:
        allow, deny = settings.egress_allow, settings.egress_deny
        # A workspace that is spoken of has its own pool too: a connection that is open is not judged again.
        workspaces = (None, *workspaces_in((*allow, *deny)))
        self._guards = {one: Egress(EgressPolicy.of(allow, deny, one)) for one in workspaces}
        self._sessions: dict[Egress, aiohttp.ClientSession] = {}

    def guard(self, workspace: UUID) -> Egress:
        """The way out of this workspace."""
        return self._guards.get(workspace, self._guards[None])

    async def open(self) -> None:
        # What comes back is never unpacked: a kilobyte of it could become a gigabyte.
        self._sessions = {guard: guard.session(auto_decompress=False) for guard in self._guards.values()}

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def ping(self) -> None:
        """Receivers are others' matter."""

    async def post(self, workspace: UUID, url: str, headers: Mapping[str, str], body: bytes) -> Attempt:
        """What came of it; whatever a receiver does is an attempt and no error of ours."""
        session = self._sessions.get(self.guard(workspace))
        if session is None:
            raise Transient("service-unavailable", "The gateway is stopping.")
        started = time.perf_counter()
        status, response, error = None, None, None
        try:
            async with (
                asyncio.timeout(SECONDS),
                session.post(url, data=body, headers={**HEADERS, **headers}, allow_redirects=False) as answer,
            ):
                status = answer.status
                response = _text(await answer.content.read(RESPONSE_BYTES))
                error = None if 200 <= status < 300 else _refused(status)
        except PlatformError as refused:
            error = refused.detail
        except TimeoutError:
            error = f"No whole answer within {SECONDS:g} seconds."
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            error = mask_text(str(broken) or type(broken).__name__)
        return Attempt(round((time.perf_counter() - started) * 1000), status, response, error)


def _refused(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}: redirects are not followed."
    return f"The receiver answered {status}."


def _text(raw: bytes) -> str:
    return mask_text(raw.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"))
