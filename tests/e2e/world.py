"""What a platform under test is connected to: a folder, a database and a web API of the test's own."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Disk:
    """The folder behind the connector `disk`."""

    folder: Path

    def write(self, name: str, text: str) -> str:
        """Write a file; its name is the stream."""
        (self.folder / name).write_text(text)
        return name


@dataclass(frozen=True)
class Warehouse:
    """The database behind the connector `warehouse`."""

    url: str

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return await self.rows(f"SELECT to_regclass('{table}')") != [(None,)]


@dataclass
class Site:
    """The web API behind connectors of type http; a test says what is answered where."""

    url: str = ""
    handlers: dict[str, Handler] = field(default_factory=dict)

    def answers(self, path: str, handler: Handler) -> None:
        self.handlers[path] = handler

    async def answer(self, request: web.Request) -> web.StreamResponse:
        handler = self.handlers.get(request.path)
        return web.Response(status=404) if handler is None else await handler(request)

    def connector(self, name: str, streams: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The definition of a connector to this API."""
        return {"name": name, "type": "http", "config": {"base_url": self.url, "streams": dict(streams)}}
