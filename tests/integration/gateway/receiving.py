"""A receiver of webhooks that answers as it is told, and what is asked of a gateway about its deliveries."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dataaggregator.contracts.connector import ConnectorCreated
from dataaggregator.ids import new_id
from tests.integration.control import until

from .conftest import Platform


@dataclass
class Receiver:
    """Takes calls on paths of its own, and answers as it is told."""

    url: str = ""
    taken: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.taken.append((request.path, dict(request.headers), await request.read()))
        if request.path.startswith("/slow"):
            await self.let_go.wait()
        status = self.status.get(request.path, 204)
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= status < 400 else None
        return web.Response(status=status, text="x\0" * 5000, headers=headers)

    def ids(self, path: str) -> list[str]:
        return [headers["webhook-id"] for taken, headers, _ in self.taken if taken == path]


async def hooked(platform: Platform, receiver: Receiver, name: str = "ops", **changes: Any) -> dict[str, Any]:
    body = {"name": name, "url": f"{receiver.url}/{name}", "types": ["connector.*"], **changes}
    status, made, _ = await platform.call("POST", "/api/webhooks", body)
    assert status == 201, made
    return dict(made)


async def happen(platform: Platform, count: int = 1) -> None:
    for _ in range(count):
        id_ = new_id()
        await platform.say(ConnectorCreated(connector_id=id_, name="a", type="files"), str(id_))


async def hurry(platform: Platform) -> None:
    """What waits to be tried again is due now."""
    async with platform.ports.database.platform() as tx:
        await tx.execute("UPDATE gateway.deliveries SET next_at = now() WHERE status = 'pending'")
        await tx.execute("UPDATE gateway.webhooks SET rest_until = NULL")


async def deliveries(platform: Platform, name: str = "ops", status: str | None = None) -> list[dict[str, Any]]:
    query = "" if status is None else f"&status={status}"
    _, page, _ = await platform.call("GET", f"/api/webhooks/{name}/deliveries?limit=500{query}")
    return list(page["items"])


async def delivered(platform: Platform, count: int, name: str = "ops") -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        found = await deliveries(platform, name, "delivered")
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = await until(look, f"{count} deliveries to {name}")
    return found


async def tried(platform: Platform, attempts: int, name: str = "ops") -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = (one for one in await deliveries(platform, name) if one["duration_ms"] is not None)
        return next((one for one in found if one["attempts"] >= attempts), None)

    found: dict[str, Any] = await until(look, f"{attempts} attempts at {name}")
    return found


async def shown(platform: Platform, name: str = "ops") -> dict[str, Any]:
    return dict((await platform.call("GET", f"/api/webhooks/{name}"))[1])
