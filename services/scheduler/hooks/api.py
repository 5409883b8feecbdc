"""Hooks, HTTP door: the address that is called, and the hook of a pipeline for those who look after it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from dataaggregator.contracts.base import Sent
from dataaggregator.contracts.document_path import DocumentPath
from dataaggregator.db import Database
from dataaggregator.http.answer import UNSTORED, Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import author
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from dataaggregator.signatures import check_secret
from services.scheduler.hooks import store
from services.scheduler.hooks.commands import HookCommands, hook_of
from services.scheduler.hooks.domain import Delivery
from services.scheduler.pipelines import store as pipelines
from services.scheduler.runs.resource import RunShown, shown

TAG = "Hooks"
DAY_SECONDS = 24 * 3600
HEADER = "Hook-Token"
ONCE = (
    "Needs no login: the token says which pipeline. A call that comes again with the same `webhook-id` (or "
    "`Idempotency-Key`) starts no second run. Where the trigger says `signed` the headers `webhook-id`, "
    "`webhook-timestamp` and `webhook-signature` of Standard Webhooks are needed."
)


class HookBody(RootModel[dict[str, Any]]):
    """`{"parameters": {...}}`, or any document where the trigger says where in it the parameters stand."""


class TokenShown(BaseModel):
    """A token that is good now; itself it is shown once only."""

    made_at: datetime
    made_by: UUID | None
    ends_at: datetime | None = Field(description="When one that was replaced is good no more.")
    last_used_at: datetime | None


class HookShown(BaseModel):
    """The webhook trigger of a pipeline."""

    signed: bool
    parameters: dict[str, DocumentPath] | None
    tokens: list[TokenShown] = Field(description="None before the first one was asked for.")


class RotateWish(Sent):
    """How the next token is made."""

    secret: Annotated[
        str | None, Field(max_length=200, description="whsec_…, where the sender has made one; else one is made.")
    ] = None
    overlap_seconds: Annotated[
        int, Field(ge=0, le=7 * DAY_SECONDS, description="How long the token before is still good.")
    ] = DAY_SECONDS


class HookMade(BaseModel):
    """Shown once: the address to call, or the token for the header `Hook-Token`, and the secret to sign with."""

    model_config = ConfigDict(from_attributes=True)
    path: str
    token: str
    secret: str
    previous_ends_at: datetime | None


@dataclass(frozen=True)
class HooksApi:
    database: Database
    commands: HookCommands

    def routes(self) -> Sequence[Route]:
        one, write = "/api/pipelines/{pipeline}/hook", Permission.DEFINITIONS_WRITE
        return (
            Route(
                "POST", "/api/hooks", self.receive, "Start a run by a hook's token in a header", TAG, None,
                body=HookBody, body_optional=True, answers={202: RunShown}, problems=(401, 404, 409), idempotent=True,
                headers={HEADER: "The token, dah_…, which no address and no log of one then holds."}, description=ONCE,
            ),
            Route(
                "POST", "/api/hooks/{token}", self.receive, "Start a run by its hook", TAG, None,
                body=HookBody, body_optional=True, answers={202: RunShown}, problems=(401, 409), idempotent=True,
                description=f"For a sender that can set no header. {ONCE}",
            ),
            Route(
                "GET", one, self.get, "Show the hook of a pipeline", TAG, Permission.DEFINITIONS_READ,
                answers={200: HookShown},
            ),
            Route(
                "POST", f"{one}/rotate", self.rotate, "Make the hook's token, or another one in its place", TAG, write,
                body=RotateWish, body_optional=True, answers={200: HookMade},
                description="The only answer that shows token and secret.",
            ),
            Route(
                "DELETE", one, self.revoke, "Take all tokens of the hook back", TAG, write, answers={204: None},
            ),
        )  # fmt: skip

    async def receive(self, call: Call) -> Answer:
        delivery = Delivery(call.body_as(HookBody).root, call.raw_body, call.headers)
        token = call.path["token"] if call.path else call.headers[HEADER]
        run = await self.commands.receive(token, delivery)
        return Answer(shown(run), status=202, headers={"Location": f"/api/runs/{run.id}"})

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            hook = await hook_of(tx, await pipelines.get(tx, call.workspace, call.path["pipeline"]))
            tokens = [TokenShown.model_validate(asdict(token)) for token in await store.tokens(tx, hook)]
        return Answer(HookShown(signed=hook.trigger.signed, parameters=hook.trigger.parameters, tokens=tokens))

    async def rotate(self, call: Call) -> Answer:
        wish = call.body_as(RotateWish)
        secret = None if wish.secret is None else check_secret(wish.secret, "secret")
        reference = call.path["pipeline"]
        made = await self.commands.rotate(call.workspace, reference, author(call), secret, wish.overlap_seconds)
        path = f"/api/hooks/{made.token}"
        return Answer(HookMade.model_validate({**asdict(made), "path": path}), headers=UNSTORED)

    async def revoke(self, call: Call) -> Answer:
        await self.commands.revoke(call.workspace, call.path["pipeline"], author(call))
        return Answer(status=204)
