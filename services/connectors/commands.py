"""Connectors, commands: create, save, delete, open for the executor; each one transaction."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from dataaggregator.bus import audit as trail
from dataaggregator.connector.registry import connector_type
from dataaggregator.connector.spec import ConnectorType
from dataaggregator.contracts.apply import AskedConnector, Change, FieldChange, differences, gathering, refused
from dataaggregator.contracts.connector import (
    ConnectorCreated,
    ConnectorDefinition,
    ConnectorDeleted,
    ConnectorTested,
    ConnectorUpdated,
)
from dataaggregator.contracts.secret import MASK
from dataaggregator.db import Connection, Database
from dataaggregator.db.quota import Quota
from dataaggregator.definition import Audited, Author, Edit
from dataaggregator.errors import Conflict, FieldError, Invalid, NotFound
from dataaggregator.ids import new_id
from dataaggregator.resealing import Sealed
from dataaggregator.secrets import KeyRing
from services.connectors import outbox, store
from services.connectors.domain import Connector, Parted, filled, part, secret_aad
from services.connectors.quota import NO_QUOTA
from services.connectors.references import References

PURPOSE = "connector-secret"
SEALED = Sealed(
    "connectors.secrets",
    ("connector_id", "field"),
    lambda row: (secret_aad(row["workspace_id"], row["connector_id"], row["field"]), PURPOSE),
)

LetGo = Callable[[Connector], Awaitable[None]]
"""Asks whoever owns the pipelines; raises Conflict if one uses the connector, else none can from then on."""


@dataclass(frozen=True)
class Opened:
    """A connector with everything needed to connect; never stored, logged or shown."""

    connector: Connector
    use: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class ConnectorCommands:
    database: Database
    keys: KeyRing
    references: References
    let_go: LetGo
    quota: Quota = NO_QUOTA

    async def create(self, workspace: UUID, author: Author, definition: ConnectorDefinition) -> Connector:
        async with self.database.transaction(workspace) as tx:
            made = await self._add(tx, workspace, new_id(), author, definition)
            await self.quota.check(tx, workspace)
            return made

    async def save(self, workspace: UUID, reference: str, author: Author, edit: Edit[ConnectorDefinition]) -> Connector:
        """A new version; the same definition again, secrets included, changes nothing."""
        async with self.database.transaction(workspace) as tx:
            before = await store.get(tx, workspace, reference, lock=True)
            edit.expect(before.version)
            stored = await self.quota.stored(tx, workspace)
            after, changed = await self._change(tx, before, author, edit.change(before))
            if changed:
                await self.quota.check(tx, workspace, stored)
            return after

    async def apply(
        self, workspace: UUID, author: Author, asked: Sequence[AskedConnector], *, dry_run: bool
    ) -> Sequence[Change]:
        """All of them, or none; raises Invalid naming all that is wrong, Conflict where a version is another by now."""
        changes: list[Change] = []
        wrong: list[FieldError] = []
        async with (self.database.rehearsal if dry_run else self.database.transaction)(workspace) as tx:
            there = await store.named(tx, workspace, [one.definition.name for one in asked])
            stored = await self.quota.stored(tx, workspace)
            for one in asked:
                before = there.get(one.definition.name)
                _expect(one, before)
                with gathering(wrong, one.index):
                    changes.append(await self._apply(tx, workspace, author, one, before))
            if wrong:
                raise refused(wrong)
            if any(one.outcome != "unchanged" for one in changes):
                await self.quota.check(tx, workspace, stored)
        return changes

    async def _apply(
        self, tx: Connection, workspace: UUID, author: Author, asked: AskedConnector, before: Connector | None
    ) -> Change:
        fields: list[FieldChange] = []
        if before is None:
            after = await self._add(tx, workspace, asked.id, author, asked.definition)
        else:
            after, fields = await self._change(tx, before, author, asked.definition)
        outcome: Literal["created", "updated", "unchanged"] = "updated" if fields else "unchanged"
        return Change(
            index=asked.index, kind="connector", name=after.name, outcome="created" if before is None else outcome,
            id=after.id, version=after.version, fields=tuple(fields),
        )  # fmt: skip

    async def _add(
        self, tx: Connection, workspace: UUID, id_: UUID, author: Author, definition: ConnectorDefinition
    ) -> Connector:
        parted = part(known_type(definition.type), definition.config, {})
        masked = definition.model_copy(update={"config": parted.config})
        connector = await store.add(tx, workspace, id_, masked, author)
        await self._keep_secrets(tx, connector, parted)
        created = ConnectorCreated(
            connector_id=connector.id, name=connector.name, type=definition.type, concurrency=definition.concurrency
        )
        await outbox.emit(tx, workspace, connector.id, created)
        await _audit(tx, connector, author, "connector.created", trail.came(connector))
        return connector

    async def _change(
        self, tx: Connection, before: Connector, author: Author, wanted: ConnectorDefinition
    ) -> tuple[Connector, list[FieldChange]]:
        """What a locked connector becomes, and what of it is not as it was."""
        if wanted.type != before.definition.type:
            message = f"stays {before.definition.type!r}: make another connector for another type"
            wrong = FieldError("type", message, "type-fixed")
            raise Invalid("connector-type-fixed", "The type of a connector cannot be changed.", errors=[wrong])
        kept = await self._open_secrets(tx, before)
        parted = part(known_type(wanted.type), wanted.config, kept)
        masked = wanted.model_copy(update={"config": parted.config})
        changed = [*differences(before.definition.model_dump(), masked.model_dump()), *_other_secrets(kept, parted)]
        if not changed:
            return before, []
        after = await store.save(tx, before, masked)
        await self._keep_secrets(tx, after, parted)
        if any(one.field != "concurrency" for one in changed):
            await store.forget_found(tx, after)
        updated = ConnectorUpdated(
            connector_id=after.id, name=after.name, type=wanted.type, concurrency=wanted.concurrency
        )
        await outbox.emit(tx, after.workspace_id, after.id, updated)
        await _audit(tx, after, author, "connector.updated", trail.changed(after, changed))
        return after, changed

    async def delete(self, workspace: UUID, reference: str, author: Author, expect: Callable[[int], None]) -> None:
        """Not while a pipeline uses it, or one that names it is being saved (ADR 0021)."""
        async with self.database.transaction(workspace) as tx:
            connector = await store.get(tx, workspace, reference)
            expect(connector.version)
            users = await store.used_by(tx, connector)
            if users:
                named = ", ".join(users)
                detail = f"The connector {connector.name!r} cannot be deleted: pipelines use it: {named}."
                raise Conflict("connector-in-use", detail)
            kept = await store.times_kept(tx, connector)
        await self.let_go(connector)
        async with self.database.transaction(workspace) as tx:
            connector = await store.get(tx, workspace, str(connector.id), lock=True)
            expect(connector.version)
            if await store.times_kept(tx, connector) != kept:
                detail = f"The connector {connector.name!r} cannot be deleted: a pipeline that uses it is being saved."
                raise Conflict("connector-in-use", detail)
            await store.remove(tx, connector)
            deleted = ConnectorDeleted(connector_id=connector.id, name=connector.name)
            await outbox.emit(tx, workspace, connector.id, deleted)
            await _audit(tx, connector, author, "connector.deleted", trail.went(connector))

    async def keep(self, workspace: UUID, connectors: Sequence[UUID]) -> Sequence[UUID]:
        """Those of these that are there; a deletion that has begun before this gives up."""
        async with self.database.transaction(workspace) as tx:
            return await store.keep(tx, workspace, connectors)

    async def open(self, workspace: UUID, reference: str) -> Opened:
        """For the executor's eyes: secrets opened, references looked up; raises Invalid where one does not resolve."""
        async with self.database.transaction(workspace) as tx:
            connector = await store.get(tx, workspace, reference)
            opened = await self._open_secrets(tx, connector)
        definition = connector.definition
        config = filled(known_type(definition.type), definition.config, opened.__getitem__)
        return Opened(connector, self._use(definition.type, config))

    def open_unsaved(self, type_: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A configuration that is tried before it is saved, so it has its secrets in it."""
        of_type = known_type(type_)
        parted = part(of_type, config, {})
        return self._use(type_, filled(of_type, parted.config, parted.secrets.__getitem__))

    async def record_test(self, connector: Connector, ok: bool, checks: Sequence[Mapping[str, Any]]) -> None:
        async with self.database.transaction(connector.workspace_id) as tx:
            now = await store.get(tx, connector.workspace_id, str(connector.id), lock=True)
            if now.version == connector.version:
                await store.save_test(tx, connector, ok, checks)
                await outbox.emit(tx, now.workspace_id, now.id, ConnectorTested(connector_id=now.id, ok=ok))

    def _use(self, type_: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"type": type_, "config": self.references.resolve(config)}

    async def _open_secrets(self, tx: Connection, connector: Connector) -> dict[str, str]:
        sealed = await store.secrets(tx, connector)
        return {
            at: self.keys.open(
                secret, aad=secret_aad(connector.workspace_id, connector.id, at), purpose=PURPOSE
            ).decode()
            for at, secret in sealed.items()
        }

    async def _keep_secrets(self, tx: Connection, connector: Connector, parted: Parted) -> None:
        sealed = {
            at: self.keys.seal(
                secret.encode(), aad=secret_aad(connector.workspace_id, connector.id, at), purpose=PURPOSE
            )
            for at, secret in parted.secrets.items()
        }
        await store.set_secrets(tx, connector, sealed)


def known_type(name: str) -> ConnectorType:
    """Raises Invalid naming the field, because the type stands in what was sent."""
    try:
        return connector_type(name)
    except NotFound as error:
        raise Invalid(error.code, error.detail, errors=[FieldError("type", error.detail, error.code)]) from None


def _expect(asked: AskedConnector, before: Connector | None) -> None:
    """Raises Conflict unless the connector is as it was when all was checked."""
    if asked.version is not None and asked.version != (before.version if before is not None else 0):
        detail = (
            f"Somebody changed the connector {asked.definition.name!r} meanwhile; nothing was changed: apply again."
        )
        raise Conflict("apply-overtaken", detail)


def _other_secrets(kept: Mapping[str, str], parted: Parted) -> Iterator[FieldChange]:
    """Secrets in the place of others; how they are is told by nobody."""
    for at, secret in parted.secrets.items():
        if at in kept and kept[at] != secret:
            yield FieldChange(field=f"config.{at}", change="changed", before=MASK, after=MASK)


async def _audit(tx: Connection, connector: Connector, author: Author, action: str, told: Mapping[str, Any]) -> None:
    detail = {**told, "type": connector.definition.type}
    await outbox.audit(tx, connector.workspace_id, author, Audited(action, "connector", connector.id, detail))
