"""rejected_api: the HTTP door to the rejected rows of a run: page by page, counted, and as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, Field

from dataaggregator.db import Database
from dataaggregator.http.answer import UNSTORED, Answer, StreamAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, Query, decode_cursor, encode_cursor
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.executor import rejected
from services.executor.arrival import arrived
from services.executor.download import FORMATS, Pieces
from services.executor.rejected_files import RejectedFiles
from services.executor.store import quarantine
from services.executor.store.quarantine import Chosen, StoredEntry

Stage = Annotated[str | None, Field(max_length=200, description="Only rows this stage rejected.")]
Rule = Annotated[str | None, Field(max_length=200, description="Only rows this rule rejected.")]


class RejectedQuery(PageQuery):
    sort: None = None
    stage: Stage = None
    rule: Rule = None


class FileQuery(Query):
    format: Annotated[
        Literal["ndjson", "csv", "parquet"],
        Field(description="In csv the row is JSON in one field; parquet keeps the types, of rows of one kind."),
    ] = "ndjson"
    stage: Stage = None
    rule: Rule = None


class RejectedRow(BaseModel):
    """One row of the quarantine; `row` is the object it was, or its raw text where it could not be read."""

    stage: str
    kind: str | None = Field(description="Of the stage, as in the ledger.")
    rule: str
    reason: str
    position: str | None
    row: dict[str, Any] | str


class RejectedReason(BaseModel):
    reason: str
    rows: int


class RejectedBy(BaseModel):
    """The rows one rule of a stage rejected, the commonest reason first; of very many reasons not all are named."""

    stage: str
    kind: str | None
    rule: str
    rows: int
    reasons: list[RejectedReason]
    position: str | None = Field(description="Of the first of them in its source, where the source can say.")
    replayed_by: UUID | None = Field(description="The run that last brought them to a destination.")


class RejectedSummary(BaseModel):
    rows: int
    items: list[RejectedBy]


@dataclass(frozen=True)
class RejectedApi:
    database: Database
    files: RejectedFiles
    retention_days: float

    def routes(self) -> Sequence[Route]:
        data, path = Permission.DATA_READ, "/api/runs/{run:id}/rejected"
        return (
            Route(
                "GET", path, self.list_page, "The rejected rows of a run", "runs", data,
                query=RejectedQuery, answers={200: Page[RejectedRow]},
            ),
            Route(
                "GET", f"{path}/summary", self.summary, "How many rows of a run were rejected where and why", "runs",
                data, answers={200: RejectedSummary},
            ),
            Route(
                "GET", f"{path}/download", self.download, "The rejected rows of a run as a file", "runs", data,
                query=FileQuery, answers={200: None}, produces=tuple(one.media_type for one in FORMATS.values()),
                description="A file that breaks off before its end is cut: the connection ends without a last chunk.",
            ),
        )  # fmt: skip

    async def list_page(self, call: Call) -> Answer:
        query, run_id = call.query_as(RejectedQuery), call.id("run")
        offset = 0 if query.cursor is None else max(0, decode_cursor(query.cursor, int)[0])
        rejected.must_be_kept(await arrived(self.database, call.workspace, run_id), self.retention_days)
        async with self.database.transaction(call.workspace) as tx:
            entries = await quarantine.list_page(
                tx, call.workspace, run_id, Chosen(query.stage, query.rule), offset=offset, limit=query.limit + 1
            )
        read = partial(rejected.read_rows, self.files.of(run_id), entries, offset, query.limit)
        found = await self.files.work(read)
        reached = offset + len(found)
        more = any(entry.first + entry.row_count > reached for entry in entries)
        items = [
            RejectedRow(stage=r.stage, kind=r.kind, rule=r.rule, reason=r.reason, position=r.position, row=r.row)
            for r in found
        ]
        return Answer(
            Page[RejectedRow](items=items, next_cursor=encode_cursor(reached) if more else None), headers=UNSTORED
        )

    async def summary(self, call: Call) -> Answer:
        entries = await self._entries(call, Chosen())
        items = _by_rule(entries)
        return Answer(RejectedSummary(rows=sum(item.rows for item in items), items=items), headers=UNSTORED)

    async def download(self, call: Call) -> Answer:
        query, run_id = call.query_as(FileQuery), call.id("run")
        entries = await self._entries(call, Chosen(query.stage, query.rule))
        made = FORMATS[query.format]
        pieces = made.pieces(self.files.of(run_id), entries)
        # The first piece before the answer begins: what is wrong then is still a problem of its own.
        first = await self.files.work(partial(next, pieces, None))
        name = f"rejected-{run_id}.{query.format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamAnswer(write=_Sending(self.files, first, pieces), content_type=made.media_type, headers=headers)

    async def _entries(self, call: Call, chosen: Chosen) -> Sequence[StoredEntry]:
        run = await arrived(self.database, call.workspace, call.id("run"))
        rejected.must_be_kept(run, self.retention_days)
        async with self.database.transaction(call.workspace) as tx:
            return await quarantine.list_entries(tx, call.workspace, run.run_id, chosen)


@dataclass(frozen=True)
class _Sending:
    files: RejectedFiles
    first: bytes | None
    rest: Pieces

    async def __call__(self, response: web.StreamResponse) -> None:
        piece = self.first
        while piece is not None:
            await response.write(piece)
            piece = await self.files.work(partial(next, self.rest, None))


def _by_rule(entries: Sequence[StoredEntry]) -> list[RejectedBy]:
    """A rule may have several entries: of several passes, or of rows with different fields."""
    found: dict[tuple[str, str], list[StoredEntry]] = {}
    for entry in entries:
        found.setdefault((entry.stage, entry.rule), []).append(entry)
    return [_together(held) for held in found.values()]


def _together(held: Sequence[StoredEntry]) -> RejectedBy:
    reasons: dict[str, int] = {}
    for entry in held:
        for reason, rows in entry.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + rows
    first = held[0]
    return RejectedBy(
        stage=first.stage,
        kind=first.kind,
        rule=first.rule,
        rows=sum(entry.row_count for entry in held),
        reasons=[
            RejectedReason(reason=reason, rows=rows)
            for reason, rows in sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
        ],
        position=first.position,
        replayed_by=next((entry.replayed_by for entry in held if entry.replayed_by), None),
    )
