"""api: the executor's HTTP door: the ledger, the rejected rows and the logs of a run."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.db import Database
from dataaggregator.errors import NotFound
from dataaggregator.http.answer import Answer, StreamAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, Query, decode_cursor, encode_cursor
from dataaggregator.http.route import Route
from dataaggregator.http.sse import stream
from dataaggregator.permissions import Permission
from services.executor.arrival import arrived
from services.executor.follow import follow_lines, shown
from services.executor.log_file import FORMATS, SendingLog
from services.executor.probe import Probes
from services.executor.rejected_api import RejectedApi
from services.executor.replays import Replays
from services.executor.store import logs, results


class LogQuery(Query):
    level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="At least this level.")] = "debug"
    after: Annotated[int, Field(ge=0, lt=2**63, description="Only lines after this one.")] = 0
    limit: Annotated[int, Field(ge=1, le=500, description="How many lines at most.")] = 50
    cursor: Annotated[str | None, Field(max_length=1000, description="next_cursor of the page before.")] = None


class LogFileQuery(Query):
    format: Annotated[Literal["ndjson", "text"], Field(description="An object or a plain line for each.")] = "ndjson"
    level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="At least this level.")] = "debug"


class LogLine(BaseModel):
    line: int
    at: datetime
    attempt: int
    level: str
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Api:
    database: Database
    rejected: RejectedApi
    replays: Replays
    probes: Probes

    def routes(self) -> list[Route]:
        reads = Permission.RUNS_READ
        return [
            Route(
                "GET",
                "/api/runs/{run:id}/ledger",
                self.get_ledger,
                "The ledger of a run: what each stage counted",
                "runs",
                reads,
                answers={200: Ledger},
            ),
            Route(
                "GET",
                "/api/runs/{run:id}/logs",
                self.list_logs,
                "The log of a run",
                "runs",
                reads,
                query=LogQuery,
                answers={200: Page[LogLine]},
                produces=("text/event-stream",),
                description="With Accept: text/event-stream the lines follow as they are written, until the run ends.",
            ),
            Route(
                "GET",
                "/api/runs/{run:id}/logs/download",
                self.download_logs,
                "The log of a run as a file",
                "runs",
                reads,
                query=LogFileQuery,
                answers={200: None},
                produces=tuple(one.media_type.partition(";")[0] for one in FORMATS.values()),
                description="All lines there are now; those of a run that has ended are kept for RUN_RETENTION_DAYS.",
            ),
            *self.rejected.routes(),
            self.replays.route(),
            self.probes.route(),
        ]

    async def get_ledger(self, call: Call) -> Answer:
        await arrived(self.database, call.workspace, call.id("run"))
        async with self.database.transaction(call.workspace) as tx:
            ledger = await results.find_ledger(tx, call.workspace, call.id("run"))
        if ledger is None:
            raise NotFound("ledger-not-there-yet", "No attempt of this run has left a ledger yet.")
        return Answer(Ledger.model_validate(ledger))

    async def list_logs(self, call: Call) -> Answer:
        query, run_id = call.query_as(LogQuery), call.id("run")
        after = query.after if query.cursor is None else decode_cursor(query.cursor, int)[0]
        await arrived(self.database, call.workspace, run_id)
        if "text/event-stream" in call.headers.get("Accept", ""):
            seen = call.headers.get("Last-Event-ID", "")
            after = max(after, int(seen)) if seen.isdecimal() and len(seen) < 19 else after
            return stream(call, follow_lines(self.database, call.workspace, run_id, query.level, after))
        async with self.database.transaction(call.workspace) as tx:
            lines, more = await logs.list_lines(
                tx, call.workspace, run_id, level=query.level, after=after, limit=query.limit
            )
        next_cursor = encode_cursor(lines[-1].line) if more else None
        return Answer({"items": [shown(line) for line in lines], "next_cursor": next_cursor})

    async def download_logs(self, call: Call) -> Answer:
        query, run_id = call.query_as(LogFileQuery), call.id("run")
        await arrived(self.database, call.workspace, run_id)
        made = FORMATS[query.format]
        ending = "txt" if query.format == "text" else query.format
        headers = {"Content-Disposition": f'attachment; filename="log-{run_id}.{ending}"'}
        sending = SendingLog(self.database, call.workspace, run_id, query.level, made)
        return StreamAnswer(write=sending, content_type=made.media_type, headers=headers)
