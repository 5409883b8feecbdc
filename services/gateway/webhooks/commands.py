"""Webhooks, commands: create, save, delete, rotate a secret, deliver again; each one transaction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from dataaggregator import signatures
from dataaggregator.bus import audit as trail
from dataaggregator.connector.egress import Egress
from dataaggregator.contracts.apply import differences
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author, Edit
from dataaggregator.errors import Conflict, Denied, FieldError, Invalid, Transient
from dataaggregator.permissions import Permission
from dataaggregator.resealing import Sealed
from dataaggregator.secrets import KeyRing
from services.gateway import SCHEMA
from services.gateway.feed.domain import ABOUT_PEOPLE

from . import deliveries, store
from .domain import PURPOSE, Webhook, WebhookDefinition, aad

SEALED = Sealed("gateway.webhook_secrets", ("id",), lambda row: (aad(row["webhook_id"]), PURPOSE))


@dataclass(frozen=True)
class Caller:
    """Who changes a webhook, and whether they may hear of people."""

    workspace: UUID
    author: Author
    about_people: bool

    def may_hear(self, definition: WebhookDefinition) -> None:
        """Raises Denied for types that are about people only."""
        if not self.about_people and any(wanted.startswith(ABOUT_PEOPLE) for wanted in definition.types):
            detail = f"Events about people (user.*, login.*) need the permission {Permission.IDENTITY_ADMIN}."
            raise Denied("permission-denied", detail)


@dataclass(frozen=True)
class WebhookCommands:
    database: Database
    keys: KeyRing
    guard: Callable[[UUID], Egress]
    """The way out of a workspace."""

    async def create(self, caller: Caller, definition: WebhookDefinition) -> tuple[Webhook, str]:
        """The webhook and the secret that its calls are signed with."""
        caller.may_hear(definition)
        await self._judge(caller.workspace, definition)
        secret = signatures.new_secret()
        async with self.database.transaction(caller.workspace) as tx:
            webhook = await store.add(tx, caller.workspace, definition, caller.author, about_people=caller.about_people)
            await store.add_secret(tx, webhook, self._sealed(webhook, secret))
            await _audit(tx, webhook, caller, "webhook.created", trail.came(webhook))
        return webhook, secret

    async def save(self, caller: Caller, reference: str, edit: Edit[WebhookDefinition]) -> Webhook:
        """A new version; one that was given up is tried again. The same definition again changes nothing else."""
        async with self.database.transaction(caller.workspace) as tx:
            proposed = edit.change(await store.get(tx, caller.workspace, reference))
        await self._judge(caller.workspace, proposed)
        async with self.database.transaction(caller.workspace) as tx:
            before = await store.get(tx, caller.workspace, reference, lock=True)
            edit.expect(before.version)
            wanted = edit.change(before)
            caller.may_hear(wanted)
            if wanted == before.find_definition() and before.disabled_at is None:
                return before
            after = await store.save(tx, before, wanted, about_people=caller.about_people)
            fields = differences(before.written, after.written)
            await _audit(tx, after, caller, "webhook.updated", trail.changed(after, fields))
            return after

    async def delete(self, caller: Caller, reference: str, expect: Callable[[int], None]) -> None:
        async with self.database.transaction(caller.workspace) as tx:
            webhook = await store.get(tx, caller.workspace, reference, lock=True)
            expect(webhook.version)
            await store.remove(tx, webhook)
            await _audit(tx, webhook, caller, "webhook.deleted", trail.went(webhook))

    async def rotate(
        self, caller: Caller, reference: str, secret: str | None, overlap_seconds: int
    ) -> tuple[str, datetime | None]:
        """The next secret, and when the one before signs no more; until then both sign."""
        made = secret or signatures.new_secret()
        async with self.database.transaction(caller.workspace) as tx:
            webhook = await store.get(tx, caller.workspace, reference, lock=True)
            ends_at = await store.end_secrets(tx, webhook, overlap_seconds)
            await store.add_secret(tx, webhook, self._sealed(webhook, made))
            await _audit(tx, webhook, caller, "webhook.secret_rotated", {})
        return made, ends_at

    async def redeliver(self, caller: Caller, reference: str, delivery: UUID) -> Mapping[str, Any]:
        async with self.database.transaction(caller.workspace) as tx:
            webhook = await store.get(tx, caller.workspace, reference, lock=True)
            if webhook.disabled_at is not None:
                raise Conflict("webhook-disabled", f"The webhook {webhook.name!r} is disabled; save it to try again.")
            again = await deliveries.again(tx, webhook, delivery)
            await _audit(tx, webhook, caller, "webhook.redelivered", {"event_id": str(again["event_id"])})
            return again

    async def _judge(self, workspace: UUID, definition: WebhookDefinition) -> None:
        """An address that may not be reached is refused at once; a name that leads nowhere now may do so later."""
        split = urlsplit(definition.url)
        port = split.port or (443 if split.scheme == "https" else 80)
        try:
            await self.guard(workspace).resolve(split.hostname or "", port)
        except Transient:
            return
        except Invalid as error:
            raise Invalid(error.code, error.detail, errors=[FieldError("url", error.detail, error.code)]) from None

    def _sealed(self, webhook: Webhook, secret: str) -> bytes:
        return self.keys.seal(secret.encode(), aad=aad(webhook.id), purpose=PURPOSE)


async def _audit(tx: Connection, webhook: Webhook, caller: Caller, action: str, told: Mapping[str, Any]) -> None:
    line = Audited(action, "webhook", webhook.id, {"name": webhook.name, "version": webhook.version, **told})
    await trail.audit(tx, SCHEMA, webhook.workspace_id, caller.author, line)
