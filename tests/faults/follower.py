"""Somebody who follows a stream of events from gateway to gateway, whatever becomes of them."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

LONGEST_STAY_SECONDS = 1.5

Json = dict[str, Any]


@dataclass
class Follower:
    """Comes to one gateway after the other, each time with the id of what it heard last."""

    urls: list[str]
    path: str
    headers: dict[str, str]
    chance: random.Random
    heard: list[tuple[str | None, str | None, Json]] = field(default_factory=list)
    moves: int = 0

    async def follow(self, over: asyncio.Event) -> None:
        async with aiohttp.ClientSession() as session:
            while not over.is_set():
                self.moves += 1
                try:
                    async with asyncio.timeout(self.chance.uniform(0.05, LONGEST_STAY_SECONDS)):
                        await self._stay(session, over)
                except (aiohttp.ClientError, TimeoutError):
                    continue

    async def _stay(self, session: aiohttp.ClientSession, over: asyncio.Event) -> None:
        last = next((id_ for id_, _, _ in reversed(self.heard) if id_ is not None), "0")
        headers = {**self.headers, "Accept": "text/event-stream", "Last-Event-ID": last}
        async with session.get(self.chance.choice(self.urls) + self.path, headers=headers) as answer:
            assert answer.status in {200, 502, 503}, await answer.text()
            fields: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    self.heard.append((fields.get("id"), fields.get("event"), orjson.loads(fields["data"])))
                    fields = {}
                    if self.heard[-1][1] == "end":
                        over.set()
                        return
