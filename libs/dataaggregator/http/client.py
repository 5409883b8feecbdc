"""How one of our services calls another: by name, with a token of its own, errors coming back as what they were."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import aiohttp
import orjson
from pydantic import BaseModel

from dataaggregator.errors import Permanent, Transient
from dataaggregator.http.problems import error_from
from dataaggregator.http.tokens import ServiceTokens
from dataaggregator.ports import Ports
from dataaggregator.telemetry import traces

Body = BaseModel | Mapping[str, Any] | None


class ServiceClient:
    """A resource of the service that calls: list it under ``resources``."""

    def __init__(self, ports: Ports, caller: str) -> None:
        self.name = "services"
        self._directory = ports.directory
        self._tokens = ServiceTokens(ports.keys, caller, ports.clock)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=100), trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Give back all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ping(self) -> None:
        """Whom we call has a readiness of its own."""

    async def get(
        self, service: str, path: str, *, workspace: UUID | None = None, timeout_seconds: float = 30
    ) -> dict[str, Any]:
        """GET; see ``call``."""
        return await self.call("GET", service, path, None, workspace=workspace, timeout_seconds=timeout_seconds)

    async def post(
        self, service: str, path: str, body: Body, *, workspace: UUID | None = None, timeout_seconds: float = 30
    ) -> dict[str, Any]:
        """POST; see ``call``."""
        return await self.call("POST", service, path, body, workspace=workspace, timeout_seconds=timeout_seconds)

    async def call(
        self,
        method: str,
        service: str,
        path: str,
        body: Body,
        *,
        workspace: UUID | None = None,
        timeout_seconds: float = 30,
    ) -> dict[str, Any]:
        """The JSON object answered (empty for an empty answer); raises the PlatformError of a problem.

        A service that does not answer in time, or at all, is Transient; one that does not know our token is Permanent.
        """
        if self._session is None:
            raise Transient("service-unavailable", "The client for other services is not open.")
        url = f"{self._directory.url(service)}{path}"
        headers = self._headers(service, workspace)
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_seconds)
            async with self._session.request(
                method, url, data=_encoded(body), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                raw = await response.read()
                return _told(service, response.status, raw, response.headers.get("Retry-After"))
        except TimeoutError:
            detail = f"The service {service} did not answer within {timeout_seconds:g} seconds."
            raise Transient("service-unavailable", detail) from None
        except aiohttp.ClientError:
            raise Transient("service-unavailable", f"The service {service} does not answer.") from None

    def _headers(self, service: str, workspace: UUID | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._tokens.token(service)}", "Content-Type": "application/json"}
        if workspace is not None:
            headers["X-Workspace"] = str(workspace)
        if (traceparent := traces.traceparent()) is not None:
            headers["traceparent"] = traceparent
        return headers


def _encoded(body: Body) -> bytes | None:
    if body is None:
        return None
    if isinstance(body, BaseModel):
        return body.__pydantic_serializer__.to_json(body, by_alias=True)
    return orjson.dumps(body)


def _told(service: str, status: int, raw: bytes, retry_after: str | None) -> dict[str, Any]:
    """The object answered, or the error it tells."""
    try:
        answered = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        answered = None
    if not isinstance(answered, dict):
        raise Transient("service-unavailable", f"The service {service} answered something that is not JSON.")
    if status < 400:
        return answered
    if status == 401:
        detail = f"The service {service} does not know our token: do both have the same SECRET_KEY and time?"
        raise Permanent("service-refused", detail)
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    raise error_from(answered, status, seconds)
