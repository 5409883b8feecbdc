"""Runs, bus door: what the executor says about runs."""

from collections.abc import Awaitable, Callable, Sequence

from dataaggregator.bus import Handler
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.run import (
    RunAttemptFailed,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunProgressed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
)
from dataaggregator.db import Connection
from services.scheduler.runs import mirror, store
from services.scheduler.runs.domain import Fact


def handlers() -> Sequence[Handler]:
    """All that is said of runs' states, ordered: `started` of the second attempt never comes before the first's end."""
    return [
        Handler("scheduler", RunStarted, _started, ordered=True),
        Handler("scheduler", RunAttemptFailed, _attempt_failed, ordered=True),
        Handler("scheduler", RunSucceeded, _ended(RunSucceeded, Fact.SUCCEEDED), ordered=True),
        Handler("scheduler", RunFailed, _ended(RunFailed, Fact.FAILED), ordered=True),
        Handler("scheduler", RunCancelled, _ended(RunCancelled, Fact.CANCELLED), ordered=True),
        Handler("scheduler", RunTimedOut, _ended(RunTimedOut, Fact.TIMED_OUT), ordered=True),
        Handler("scheduler", RunProgressed, _progressed),
    ]


async def _started(event: Event, tx: Connection) -> None:
    await mirror.started(tx, event.workspace_id, event.read(RunStarted))


async def _attempt_failed(event: Event, tx: Connection) -> None:
    await mirror.attempt_failed(tx, event.workspace_id, event.read(RunAttemptFailed), event.time)


async def _progressed(event: Event, tx: Connection) -> None:
    await store.save_progress(tx, event.workspace_id, event.read(RunProgressed))


def _ended(message: type[RunEnded], fact: Fact) -> Callable[[Event, Connection], Awaitable[None]]:
    async def handle(event: Event, tx: Connection) -> None:
        await mirror.ended(tx, event.workspace_id, fact, event.read(message))

    return handle
