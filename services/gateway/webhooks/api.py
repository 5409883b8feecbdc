"""Webhooks, HTTP door: /api/webhooks, their secrets and what was delivered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from dataaggregator.db import Database
from dataaggregator.http.answer import UNSTORED, Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import Models, Titles, author, definition_routes, expect, patching, replacing
from dataaggregator.http.paging import Page, PageQuery
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from dataaggregator.signatures import check_secret

from . import deliveries, store
from .commands import Caller, WebhookCommands
from .domain import Webhook, WebhookDefinition
from .resource import DeliveryQuery, DeliveryShown, RotateWish, SecretMade, WebhookMade, WebhookShown, made, shown

TAG = "Webhooks"


@dataclass(frozen=True)
class WebhooksApi:
    database: Database
    commands: WebhookCommands
    address: Callable[[web.Request], str]
    """The caller's address, as far as trusted proxies tell."""

    def routes(self) -> Sequence[Route]:
        write, one = Permission.DEFINITIONS_WRITE, "/api/webhooks/{webhook}"
        return (
            *definition_routes(
                self, one, TAG,
                Titles(
                    "List webhooks", "Send events to an address", "Show a webhook", "Replace a webhook",
                    "Change parts of a webhook", "Delete a webhook, and what waits for it",
                ),
                Models(PageQuery, Page[WebhookShown], WebhookDefinition, WebhookMade, WebhookShown),
                create="The events of the workspace from now on, as CloudEvents, signed by Standard Webhooks.",
                deleting=(),
            ),
            Route(
                "POST", f"{one}/rotate-secret", self.rotate, "Sign with another secret", TAG, write,
                body=RotateWish, body_optional=True, answers={200: SecretMade},
                description="For the overlap calls carry a signature by each of both.",
            ),
            Route(
                "GET", f"{one}/deliveries", self.deliveries, "List what was delivered, and what waits", TAG,
                Permission.RUNS_READ, query=DeliveryQuery, answers={200: Page[DeliveryShown]},
            ),
            Route(
                "POST", f"{one}/deliveries/{{delivery:id}}/redeliver", self.redeliver, "Deliver an event again", TAG,
                Permission.RUNS_OPERATE, answers={202: DeliveryShown}, problems=(409,), idempotent=True,
            ),
        )  # fmt: skip

    async def list_page(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            found, cursor = await store.list_page(tx, call.workspace, call.query_as(PageQuery))
        return Answer(Page[WebhookShown](items=[shown(one) for one in found], next_cursor=cursor))

    async def create(self, call: Call) -> Answer:
        webhook, secret = await self.commands.create(self._caller(call), call.body_as(WebhookDefinition))
        headers = {"Location": f"/api/webhooks/{webhook.id}", **UNSTORED}
        return Answer(made(webhook, secret), status=201, headers=headers, etag=webhook.version)

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            return _answer(await store.get(tx, call.workspace, call.path["webhook"]))

    async def replace(self, call: Call) -> Answer:
        edit = replacing(call, WebhookDefinition)
        return _answer(await self.commands.save(self._caller(call), call.path["webhook"], edit))

    async def patch(self, call: Call) -> Answer:
        edit = patching(call, WebhookDefinition)
        return _answer(await self.commands.save(self._caller(call), call.path["webhook"], edit))

    async def delete(self, call: Call) -> Answer:
        await self.commands.delete(self._caller(call), call.path["webhook"], expect(call))
        return Answer(status=204)

    async def rotate(self, call: Call) -> Answer:
        wish = call.body_as(RotateWish)
        secret = None if wish.secret is None else check_secret(wish.secret, "secret")
        reference = call.path["webhook"]
        secret, ends_at = await self.commands.rotate(self._caller(call), reference, secret, wish.overlap_seconds)
        return Answer(SecretMade(secret=secret, previous_ends_at=ends_at), headers=UNSTORED)

    async def deliveries(self, call: Call) -> Answer:
        query = call.query_as(DeliveryQuery)
        async with self.database.transaction(call.workspace) as tx:
            webhook = await store.get(tx, call.workspace, call.path["webhook"])
            found, cursor = await deliveries.list_page(tx, webhook, query.status, query)
        items = [DeliveryShown.model_validate(one) for one in found]
        return Answer(Page[DeliveryShown](items=items, next_cursor=cursor))

    async def redeliver(self, call: Call) -> Answer:
        again = await self.commands.redeliver(self._caller(call), call.path["webhook"], call.id("delivery"))
        return Answer(DeliveryShown.model_validate(again), status=202)

    def _caller(self, call: Call) -> Caller:
        known = replace(author(call), address=self.address(call.request))
        people = Permission.IDENTITY_ADMIN in call.identity.permissions(call.workspace)
        return Caller(call.workspace, known, people)


def _answer(webhook: Webhook) -> Answer:
    return Answer(shown(webhook), etag=webhook.version)
