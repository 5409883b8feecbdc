"""A pipeline of orders, and one whose runs last until they are let go."""

import asyncio
from typing import Any

from aiohttp import web

from tests.e2e.api import Api, Json
from tests.e2e.world import Site


def pipeline(called: str, /, **changed: Any) -> Json:
    """Reads five orders: two have no region, one is too small, two are delivered."""
    rules = [{"rule": "region-known", "check": {"not_null": "region"}}]
    table = f"public.{called.replace('-', '_')}"
    return {
        "name": called,
        "sources": {"orders": {"connector": "disk", "stream": "orders.csv"}},
        "transformations": [
            {"name": "clean", "steps": [{"validate": rules}, {"name": "large", "filter": "amount > 2"}]}
        ],
        "destinations": [{"connector": "warehouse", "stream": table, "write": "replace"}],
        **changed,
    }


class Held:
    """A stream of a web API that answers only when it is let go."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    async def answer(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.let_go.wait()
        return web.json_response([{"id": 1}])


async def held_pipeline(api: Api, site: Site, name: str, **changed: Any) -> Held:
    """A pipeline whose runs last until `let_go` is set."""
    held = Held()
    site.answers(f"/{name}", held.answer)
    await api.post("/api/connectors", site.connector(f"{name}-api", {"rows": {"path": f"/{name}"}}))
    sources = {"rows": {"connector": f"{name}-api", "stream": "rows", "schema": {"id": "bigint"}}}
    await api.post("/api/pipelines", pipeline(name, sources=sources, transformations=[], **changed))
    return held
