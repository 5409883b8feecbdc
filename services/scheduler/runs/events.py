"""Runs, bus door: what the executor says about runs."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.bus.handler import alone
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

ENDS: Sequence[tuple[type[RunEnded], Fact]] = (
    (RunSucceeded, Fact.SUCCEEDED),
    (RunFailed, Fact.FAILED),
    (RunCancelled, Fact.CANCELLED),
    (RunTimedOut, Fact.TIMED_OUT),
)


def handlers() -> Sequence[Handler]:
    """All that is said of runs' states, ordered: `started` of the second attempt never comes before the first's end."""
    return [
        Handler("scheduler", RunStarted, alone(_started), ordered=True, handle_all=_started),
        Handler("scheduler", RunAttemptFailed, _attempt_failed, ordered=True),
        *(_ended(message, fact) for message, fact in ENDS),
        Handler("scheduler", RunProgressed, _progressed),
    ]


async def _started(events: Sequence[Event], tx: Connection) -> None:
    await mirror.started(tx, events[0].workspace_id, [event.read(RunStarted) for event in events])


async def _attempt_failed(event: Event, tx: Connection) -> None:
    await mirror.attempt_failed(tx, event.workspace_id, event.read(RunAttemptFailed), event.time)


async def _progressed(event: Event, tx: Connection) -> None:
    await store.save_progress(tx, event.workspace_id, event.read(RunProgressed))


def _ended(message: type[RunEnded], fact: Fact) -> Handler:
    async def handle_all(events: Sequence[Event], tx: Connection) -> None:
        await mirror.ended(tx, events[0].workspace_id, fact, [event.read(message) for event in events])

    return Handler("scheduler", message, alone(handle_all), ordered=True, handle_all=handle_all)
