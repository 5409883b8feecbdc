"""Audit, HTTP door: administrators read who did what, take it along, and let it be verified."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from dataaggregator.contracts.base import Moment
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.db import Database
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.http.answer import Answer, StreamAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, decode_cursor, encode_cursor
from dataaggregator.http.route import Route
from dataaggregator.permissions import DEFAULT_WORKSPACE, Permission
from services.auth.calls import Body

from . import store
from .commands import Trail, Verified
from .domain import Entry, Head
from .store import Place, Wanted

NDJSON = "application/x-ndjson"
Word = Annotated[str, Field(min_length=1, max_length=254)]
_OWN = (
    "Of the workspace of the call. What belongs to none, such as failed logins of unknown accounts, is shown in the "
    f"workspace `{DEFAULT_WORKSPACE}`."
)


class AuditQuery(PageQuery):
    sort: None = None
    actor: Annotated[Word | None, Field(description="Who: a user's id, or an e-mail as it was then.")] = None
    api_key: Annotated[Word | None, Field(description="By which API key: its id, also after it was removed.")] = None
    action: Annotated[Word | None, Field(description="What: `pipeline.paused`, or `pipeline.*`")] = None
    resource_type: Annotated[Word | None, Field(description="`pipeline`, `connector`, `user`, …")] = None
    resource_id: Annotated[Word | None, Field(description="The id of what it was done to.")] = None
    service: Annotated[Word | None, Field(description="The service that did it.")] = None
    since: Annotated[Moment | None, Field(description="Not before this time.")] = None
    until: Annotated[Moment | None, Field(description="Before this time.")] = None


class EntryView(BaseModel):
    """What was done, and its link in the chain of its workspace."""

    entry_id: UUID
    workspace_id: UUID = Field(description="All zeros for what belongs to no workspace.")
    position: int = Field(description="In the chain, from 1 on.")
    at: datetime
    service: str
    action: str = Field(description="Past tense, such as `pipeline.paused`.")
    resource_type: str
    resource_id: str
    actor_id: UUID | None
    actor: str | None = Field(description="The e-mail as it was then, or how the platform calls itself.")
    address: str | None = Field(description="Where the caller was, as far as `TRUSTED_PROXIES` tell.")
    request_id: str | None
    detail: dict[str, Any] = Field(description="What was before and after, secrets masked.")
    previous: str = Field(description="The digest of the entry before, in hex.")
    digest: str = Field(description="SHA-256 of position, previous digest and content, in hex.")


class KeptHead(Body):
    """A place in a chain as somebody has written it down."""

    workspace_id: UUID
    position: Annotated[int, Field(ge=1, lt=2**63)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VerifyBody(Body):
    heads: list[KeptHead] = Field(
        default=[], max_length=1000, description="Heads that an earlier answer gave and that were kept elsewhere."
    )


class HeadView(BaseModel):
    workspace_id: UUID
    position: int
    digest: str
    signed_at: datetime | None = Field(default=None, description="Null for one that is not signed yet.")
    signature: str | None = Field(default=None, description="Ed25519 over the head's canonical JSON, base64.")


class BrokenView(BaseModel):
    position: int = Field(description="The first entry that does not hold.")
    reason: str


class ChainView(BaseModel):
    workspace_id: UUID
    entries: int
    end: HeadView | None = Field(description="The last entry: keep it elsewhere, and send it with the next call.")
    head: HeadView | None = Field(description="The last head that was signed; what was added since is not covered.")
    dropped: HeadView | None = Field(
        description="The last entry that was dropped because its time was over; what is kept goes on from its digest."
    )
    broken: BrokenView | None


class VerificationView(BaseModel):
    ok: bool
    public_key: str = Field(description="Ed25519, raw, base64: what signatures of heads are verified by.")
    chains: list[ChainView]


class AuditApi:
    """The routes of the audit."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    def routes(self) -> list[Route]:
        admin = Permission.PLATFORM_ADMIN
        return [
            Route(
                "GET",
                "/api/audit",
                self.list_entries,
                "List who did what",
                "audit",
                admin,
                query=AuditQuery,
                answers={200: Page[EntryView]},
                description=f"Newest first. {_OWN}",
            ),
            Route(
                "GET",
                "/api/audit/export",
                self.export,
                "The whole audit as a file",
                "audit",
                admin,
                answers={200: None},
                produces=(NDJSON,),
                description=f"One entry a line, each chain from its beginning. {_OWN}",
            ),
            Route(
                "POST",
                "/api/audit/verify",
                self.verify,
                "Verify that the audit is whole",
                "audit",
                admin,
                body=VerifyBody,
                body_optional=True,
                answers={200: VerificationView},
                description=f"Goes through each chain and holds it against its signed heads and those sent. {_OWN}",
            ),
        ]

    async def list_entries(self, call: Call) -> Answer:
        query = call.query_as(AuditQuery)
        after = None if query.cursor is None else Place(*decode_cursor(query.cursor, datetime, UUID, int))
        wanted = Wanted(**query.model_dump(exclude={"sort", "cursor", "limit"}))
        async with self._database.platform() as tx:
            found, more = await store.newest(tx, _workspaces(call), wanted, after, query.limit)
        last = encode_cursor(found[-1].at, found[-1].workspace_id, found[-1].link.position) if more else None
        return Answer({"items": [_shown(one) for one in found], "next_cursor": last})

    async def export(self, call: Call) -> Answer:
        headers = {"Content-Disposition": 'attachment; filename="audit.ndjson"'}
        return StreamAnswer(write=Export(self._database, _workspaces(call)), content_type=NDJSON, headers=headers)

    async def verify(self, call: Call) -> Answer:
        workspaces = _workspaces(call)
        kept: dict[UUID, dict[int, bytes]] = defaultdict(dict)
        wrong: list[FieldError] = []
        for index, head in enumerate(call.body_as(VerifyBody).heads):
            kept[head.workspace_id][head.position] = bytes.fromhex(head.digest)
            if head.workspace_id not in workspaces:
                message = "should be a chain that this call verifies"
                wrong.append(FieldError(f"heads[{index}].workspace_id", message, "workspace-denied"))
        if wrong:
            raise Invalid("body-invalid", "Heads of other workspaces are verified there.", errors=wrong)
        chains = [await self._trail.verify(one, kept[one]) for one in workspaces]
        public = base64.b64encode(self._trail.public_key()).decode()
        ok = all(one.broken is None for one in chains)
        return Answer(VerificationView(ok=ok, public_key=public, chains=[_verified(one) for one in chains]))


@dataclass(frozen=True)
class Export:
    """Chain after chain, a batch at a time."""

    database: Database
    workspaces: Sequence[UUID]

    async def __call__(self, response: web.StreamResponse) -> None:
        for workspace in self.workspaces:
            after = 0
            while True:
                async with self.database.platform() as tx:
                    batch = await store.chain(tx, workspace, after=after)
                if not batch:
                    break
                lines = (orjson.dumps(_shown(one), option=orjson.OPT_APPEND_NEWLINE) for one in batch)
                await response.write(b"".join(lines))
                after = batch[-1].link.position


def _workspaces(call: Call) -> Sequence[UUID]:
    """The caller's; what belongs to none is looked after where the installation's first administrator is."""
    return (call.workspace, PLATFORM_WORKSPACE) if call.of_the_platform else (call.workspace,)


def _shown(entry: Entry) -> dict[str, Any]:
    """What was hashed, as it was hashed, and its link."""
    link = entry.link
    return entry.said | {
        "position": link.position,
        "previous": link.previous.hex(),
        "digest": link.digest.hex(),
    }


def _verified(chain: Verified) -> ChainView:
    end, last, signed = chain.end, None, None
    if end is not None:
        last = HeadView(workspace_id=chain.workspace_id, position=end.position, digest=end.digest.hex())
    if chain.head is not None and chain.signature is not None:
        signed = _head(chain.head, chain.signature)
    broken = None
    if chain.broken is not None:
        broken = BrokenView(position=chain.broken.position, reason=chain.broken.reason)
    return ChainView(
        workspace_id=chain.workspace_id,
        entries=chain.entries,
        end=last,
        head=signed,
        dropped=None if chain.anchor is None else _head(*chain.anchor),
        broken=broken,
    )


def _head(head: Head, signature: bytes) -> HeadView:
    return HeadView(
        workspace_id=head.workspace_id,
        position=head.position,
        digest=head.digest.hex(),
        signed_at=head.signed_at,
        signature=base64.b64encode(signature).decode(),
    )
