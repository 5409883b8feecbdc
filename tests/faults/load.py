"""Callers of the whole platform while it has its faults: what they asked for, and how they were answered."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from dataaggregator.client import Client
from dataaggregator.ids import new_id
from tests.faults.invariants import Copied

ANSWER_SECONDS = 15.0
PAUSE_SECONDS = 0.02
RUN_EVERY_SECONDS = 1.0
PIPELINES = 3


@dataclass
class Answers:
    """Statuses by what was asked; 0 where there was no answer."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def asked(self) -> int:
        """How many calls there were."""
        return self.statuses.total()

    @property
    def failed(self) -> dict[tuple[str, int], int]:
        """What was not answered, or with the platform's own fault."""
        return {key: count for key, count in self.statuses.items() if key[1] == 0 or key[1] >= 500}


async def make_pipelines(client: Client, folder: Path) -> list[str]:
    """Pipelines from a small file to another one; their names, which nobody else has."""
    name = f"p{secrets.token_hex(4)}"
    source, target = folder / f"{name}-in", folder / f"{name}-out"
    for place in (source, target):
        place.mkdir()
    (source / "rows.csv").write_text("id,amount\n" + "".join(f"{n},{n}.5\n" for n in range(100)))
    for place in (source, target):
        config = {"root": place.as_uri(), "format": "csv"}
        await client.post("/api/connectors", {"name": place.name, "type": "files", "config": config})
    names = [f"{name}-{number}" for number in range(PIPELINES)]
    for each in names:
        destination = {"connector": target.name, "stream": f"{each}.csv", "write": "replace"}
        sources = {"rows": {"connector": source.name, "stream": "rows.csv"}}
        await client.post("/api/pipelines", {"name": each, "sources": sources, "destinations": [destination]})
    return names


def copies(folder: Path, pipelines: list[str]) -> list[Copied]:
    """What these pipelines have written, beside what they read; the first of them has had a run."""
    name = pipelines[0].rpartition("-")[0]
    found = [Copied(folder / f"{name}-in" / "rows.csv", folder / f"{name}-out" / f"{each}.csv") for each in pipelines]
    return [found[0], *(one for one in found[1:] if one.target.exists())]


@asynccontextmanager
async def load(client: Client, pipelines: list[str], folder: Path) -> AsyncIterator[Answers]:
    """Callers that read, change and start runs, each one call after the other, until the block ends."""
    answers, over = Answers(), asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    headers = {"Authorization": f"Bearer {client.tokens[0]}"}
    async with aiohttp.ClientSession(client.url, headers=headers, timeout=timeout) as session:
        callers = [
            asyncio.create_task(_repeat(over, PAUSE_SECONDS, lambda: _ask(session, answers, "GET", "/api/pipelines"))),
            asyncio.create_task(_repeat(over, PAUSE_SECONDS, lambda: _make_connector(session, answers, folder))),
            asyncio.create_task(_repeat(over, RUN_EVERY_SECONDS, lambda: _start_run(session, answers, pipelines))),
        ]
        try:
            yield answers
        finally:
            over.set()
            await asyncio.gather(*callers)


async def _repeat(over: asyncio.Event, pause: float, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while not over.is_set():
        began = time.monotonic()
        await call()
        try:
            async with asyncio.timeout(max(pause - (time.monotonic() - began), 0.001)):
                await over.wait()
        except TimeoutError:
            continue


async def _make_connector(session: aiohttp.ClientSession, answers: Answers, folder: Path) -> None:
    body = {"name": f"c-{new_id()}", "type": "files", "config": {"root": folder.as_uri()}}
    await _ask(session, answers, "POST", "/api/connectors", body)


async def _start_run(session: aiohttp.ClientSession, answers: Answers, pipelines: list[str]) -> None:
    name = pipelines[answers.asked % len(pipelines)]
    await _ask(session, answers, "POST", f"/api/pipelines/{name}/runs", {})


async def _ask(session: aiohttp.ClientSession, answers: Answers, method: str, path: str, body: Any = None) -> None:
    status = 0
    try:
        async with session.request(method, path, json=body) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError):
        status = 0
    answers.statuses[f"{method} {path.split('/')[2]}", status] += 1
