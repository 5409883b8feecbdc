"""follow: the log of a run as Server-Sent Events, from where the reader was until the run has ended."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson

from dataaggregator.db import Database
from dataaggregator.http.sse import ServerSentEvent
from services.executor.domain import has_ended
from services.executor.store import logs, runs
from services.executor.store.logs import StoredLine

LOOK_SECONDS = 0.5
BATCH_LINES = 200


def shown(line: StoredLine) -> dict[str, Any]:
    return {
        "line": line.line,
        "at": line.at,
        "attempt": line.attempt,
        "level": line.level,
        "message": line.message,
        "fields": line.fields,
    }


async def follow_lines(
    database: Database, workspace: UUID, run_id: UUID, level: str, after: int
) -> AsyncIterator[ServerSentEvent]:
    """Lines as events `log` with their number as id; the event `end` with the run's status closes the stream."""
    while True:
        async with database.transaction(workspace) as tx:
            # The status first: lines written before it was final are then surely among those read.
            run = await runs.get(tx, workspace, run_id)
            lines, more = await logs.list_lines(tx, workspace, run_id, level=level, after=after, limit=BATCH_LINES)
        for line in lines:
            data = orjson.dumps(shown(line), option=orjson.OPT_UTC_Z).decode()
            yield ServerSentEvent(data, event="log", id=str(line.line))
            after = line.line
        if not lines and has_ended(run.status):
            end = orjson.dumps({"run_id": str(run_id), "status": run.status}).decode()
            yield ServerSentEvent(end, event="end")
            return
        if not more:
            await asyncio.sleep(LOOK_SECONDS)
