"""The host: ordered start, a port each, signals, drain, stop in reverse order; a loop that ends stops everything."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from pydantic import BaseModel

from dataaggregator.bus import EmbeddedBus
from dataaggregator.clock import SystemClock
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.errors import Permanent, Transient
from dataaggregator.host import Host, LoopEndedError
from dataaggregator.http import sse
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.http.sse import ServerSentEvent
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.ports import Ports
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Loop, Service
from dataaggregator.settings import Settings


class Recorded:
    """A resource that writes down what happens to it."""

    def __init__(self, name: str, story: list[str], error: Exception | None = None) -> None:
        self.name = name
        self._story = story
        self._error = error

    async def open(self) -> None:
        self._story.append(f"open {self.name}")
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        self._story.append(f"close {self.name}")

    async def ping(self) -> None:
        if self._error is not None:
            raise self._error


class Said(BaseModel):
    said: str


@pytest.fixture
def story() -> list[str]:
    return []


@pytest.fixture
def ports(settings: Settings, database_url: str) -> Ports:
    settings = settings.model_copy(update={"gateway_port": 0, "stop_seconds": 2.0})
    database = Database(database_url, settings)
    clock = SystemClock()
    return Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(settings.rates()),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing("only-for-tests-only-for-tests-only-for-tests"),
        clock=clock,
    )


async def for_ever() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


async def test_services_start_in_order_and_stop_in_reverse(ports: Ports, story: list[str]) -> None:
    one = Service("one", [], resources=[Recorded("a", story)], loops=[Loop("wait", for_ever)])
    shared = Recorded("b", story)
    two = Service("two", [], resources=[shared, shared])
    async with Host([one, two], ports, handle_signals=False) as host:
        for name in ("one", "two"):
            async with calling(host.directory.url(name)) as session, session.get("/health/ready") as response:
                assert response.status == 200
        assert host.directory.services() == ("one", "two")
    assert story == ["open a", "open b", "close b", "close a"]
    async with calling(host.directory.url("one")) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("/health/live")


async def test_a_start_that_fails_undoes_what_was_done(ports: Ports, story: list[str]) -> None:
    broken = Recorded("b", story, Transient("database-unavailable", "Not there."))
    service = Service("one", [], resources=[Recorded("a", story), broken, Recorded("c", story)])
    with pytest.raises(Transient):
        await Host([service], ports, handle_signals=False).start()
    assert story == ["open a", "open b", "close b", "close a"]


async def test_a_port_in_use_is_said_in_one_sentence_before_anything_is_opened(ports: Ports, story: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ports.settings.model_copy(update={"gateway_port": port})
        gateway = Service("gateway", [], resources=[Recorded("a", story)])
        changed = Ports(**{**vars(ports), "settings": settings})
        with pytest.raises(Permanent, match=f"Cannot listen on 127.0.0.1:{port}: another program has it"):
            await Host([gateway], changed, handle_signals=False).start()
    assert story == []


@pytest.mark.parametrize("error", [None, ZeroDivisionError("a bug")])
async def test_a_loop_that_ends_stops_everything(ports: Ports, story: list[str], error: Exception | None) -> None:
    async def ends() -> None:
        if error is not None:
            raise error

    service = Service("one", [], resources=[Recorded("a", story)], loops=[Loop("short", ends)])
    async with Host([service], ports, handle_signals=False) as host:
        with pytest.raises(LoopEndedError, match=r"one\.short") as caught:
            async with asyncio.timeout(5):
                await host.stopped()
        assert caught.value.__cause__ is error
    assert story[-1] == "close a"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_for_the_end(ports: Ports, number: signal.Signals) -> None:
    async with Host([Service("one", [])], ports) as host:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await host.stopped()


async def test_a_call_in_work_is_let_finish_and_a_stream_is_ended(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_call: Call) -> Answer:
        reached.set()
        await go_on.wait()
        return Answer(Said(said="done"))

    async def events() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent("first", event="run.started.v1", id="1")
        await for_ever()

    async def follow(call: Call) -> Answer:
        return sse.stream(call, events())

    routes = [
        Route("GET", "/slow", slow, "Slow", "trial", None, answers={200: Said}),
        Route("GET", "/events", follow, "Events", "trial", None, produces=("text/event-stream",)),
    ]
    host = Host([Service("one", routes)], ports, handle_signals=False)
    await host.start()
    async with calling(host.directory.url("one")) as session:
        answer = asyncio.create_task(_json(session, "/slow"))
        await reached.wait()
        async with session.get("/events") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["X-Request-ID"]
            heard = await response.content.readuntil(b": heartbeat\n\n")
            assert heard == b": ready\n\nid: 1\nevent: run.started.v1\ndata: first\n\n: heartbeat\n\n"
            stopping = asyncio.create_task(host.stop())
            with suppress(aiohttp.ClientPayloadError):
                await response.content.read()
        go_on.set()
        assert await answer == {"said": "done"}
        await stopping


async def _json(session: aiohttp.ClientSession, path: str) -> object:
    async with session.get(path) as response:
        return await response.json()


async def test_ready_names_the_need_that_cannot_be_used(ports: Ports, story: list[str]) -> None:
    down = Recorded("store", story, Transient("database-unavailable", "refused by postgresql://u:hunter2@h/d"))
    bug = Recorded("other", story, ZeroDivisionError("hunter2"))
    service = Service("one", [], needs=[ports.database, down, bug])
    async with (
        Host([service], ports, handle_signals=False) as host,
        calling(host.directory.url("one")) as session,
        session.get("/health/ready") as response,
    ):
        told = await response.json()
        assert response.status == 503
    assert "hunter2" not in str(told)
    assert told["status"] == "not_ready"
    assert [(check["name"], check["ok"], check["code"]) for check in told["checks"]] == [
        ("postgres", True, None),
        ("store", False, "database-unavailable"),
        ("other", False, "internal-error"),
        ("revocations", True, None),
    ]
    assert told["checks"][1]["help"] == "docs/troubleshooting/errors.md#database-unavailable"
