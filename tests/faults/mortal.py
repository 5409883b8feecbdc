"""Processes made to die; those of the bus's three small services on RabbitMQ at a named place.

The processes are forked off one that has imported everything, so that a life costs what it does and not a second more.
"""

import asyncio
import multiprocessing
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkServerProcess
from typing import Any

from aio_pika import IncomingMessage

from dataaggregator.bus import consumer, verdict
from dataaggregator.bus.rabbitmq import RabbitBus
from dataaggregator.bus.rabbitmq.publisher import Publisher
from dataaggregator.bus.rabbitmq.receiver import Receiver
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database
from dataaggregator.settings import Settings
from tests.integration.bus.rig import LISTENER, Rig

STARTED_WITHIN_SECONDS = 30.0
DEAD_WITHIN_SECONDS = 60.0
POISON = "poison"
PARENTS = (__name__, "tests.faults.schedulers")

Die = Callable[[], Awaitable[None]]


def around(owner: type[Any], name: str, *, before: Die | None = None, after: Die | None = None) -> None:
    """Let every call of a method pass these places."""
    original = getattr(owner, name)

    async def wrapped(*words: Any, **named: Any) -> Any:
        if before is not None:
            await before()
        answer = await original(*words, **named)
        if after is not None:
            await after()
        return answer

    setattr(owner, name, wrapped)


def _while_sending(die: Die) -> None:
    """Somewhere between the first byte sent and the last confirm."""
    original = Publisher.publish

    async def publish(self: Publisher, *words: Any) -> Any:
        sending = asyncio.ensure_future(original(self, *words))
        await asyncio.wait([sending], timeout=random.uniform(0.001, 0.01))
        await die()
        return await sending

    Publisher.publish = publish  # type: ignore[assignment, method-assign]


PLACES: dict[str, Callable[[Die], None]] = {
    "relay, before it sends": lambda die: around(Publisher, "publish", before=die),
    "relay, before all is confirmed": _while_sending,
    "relay, confirmed and not marked": lambda die: around(Publisher, "publish", after=die),
    "consumer, before it applies": lambda die: around(Receiver, "_judge", before=die),
    "consumer, applied and not acknowledged": lambda die: around(IncomingMessage, "ack", before=die),
    "consumer, just acknowledged": lambda die: around(IncomingMessage, "ack", after=die),
}


@dataclass(frozen=True)
class Fate:
    """Where a process dies: at the nth passing of a place, or whenever it handles an event about POISON."""

    place: str | None = None
    nth: int = 1


class Mortal:
    """A process that dies of its fate, or is killed."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @classmethod
    async def born(cls, live: Callable[..., None], *words: Any) -> "Mortal":
        """A process that lives so, told these words and the pipe on which it says that it was born.

        Return when it is at work, or dead already.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PARENTS))
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=live, args=(*words, there), daemon=True)
        await asyncio.to_thread(process.start)
        there.close()  # so that an early death is heard as well
        assert await asyncio.to_thread(here.poll, STARTED_WITHIN_SECONDS), "it was not born"
        here.close()
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    async def death(self, within_seconds: float = DEAD_WITHIN_SECONDS) -> None:
        """Return when it is dead, of its fate and of nothing else."""
        await asyncio.to_thread(self._process.join, within_seconds)
        assert self._process.exitcode == -signal.SIGKILL, f"it ended with {self._process.exitcode}"

    async def end(self) -> None:
        """Kill it now, if it lives."""
        self._process.kill()
        await asyncio.to_thread(self._process.join, DEAD_WITHIN_SECONDS)


@dataclass(frozen=True)
class Nursery:
    """Where they are born."""

    settings: Settings
    rabbitmq_url: str

    async def birth(self, fate: Fate) -> Mortal:
        """A process at work, or dead already."""
        assert self.settings.database_url is not None
        return await Mortal.born(_live, self.settings.database_url.get_secret_value(), self.rabbitmq_url, fate)


def _live(database_url: str, rabbitmq_url: str, fate: Fate, born: Pipe) -> None:
    # A retry that was claimed by a process that died is free a minute later; here sooner.
    consumer.CLAIM_SECONDS = 0.5  # type: ignore[misc, unused-ignore]
    verdict.FIRST_PAUSE_SECONDS = 0.002  # type: ignore[misc, unused-ignore]
    passed = 0

    async def die() -> None:
        nonlocal passed
        passed += 1
        if passed == fate.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    if fate.place is not None:
        PLACES[fate.place](die)
    asyncio.run(_run(database_url, rabbitmq_url, born))


async def _run(database_url: str, rabbitmq_url: str, born: Pipe) -> None:
    settings = Settings.model_validate({"database_url": database_url, "relay_poll_seconds": 0.2})
    database = Database(database_url, settings)
    await database.open()
    bus = RabbitBus(rabbitmq_url, database, settings)
    await bus.open()
    rig = Rig(database, bus, {LISTENER: _die_of_poison})
    rig.subscribe()
    rig.start()
    while not all(  # noqa: ASYNC110 - consumers have no signal for it
        each.receiver.consuming for each in bus._subscriptions.values()
    ):
        await asyncio.sleep(0.01)
    born.send_bytes(b"born")
    await asyncio.wait(rig.tasks)


async def _die_of_poison(event: Event, _: Connection) -> None:
    if event.subject == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
