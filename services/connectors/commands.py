"""Connectors, commands: create, save, delete, open for the executor; each one transaction."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.connector.registry import connector_type
from dataaggregator.connector.spec import ConnectorType
from dataaggregator.contracts.connector import ConnectorCreated, ConnectorDeleted, ConnectorTested, ConnectorUpdated
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author, Edit
from dataaggregator.errors import Conflict, FieldError, Invalid, NotFound
from dataaggregator.ids import new_id
from dataaggregator.secrets import KeyRing
from services.connectors import outbox, store
from services.connectors.domain import Connector, ConnectorDefinition, Parted, filled, part, secret_aad
from services.connectors.references import References

PURPOSE = "connector-secret"

LetGo = Callable[[Connector], Awaitable[None]]
"""Asks whoever owns the pipelines; raises Conflict if one uses the connector, else none can from then on."""


@dataclass(frozen=True)
class Opened:
    """A connector with everything needed to connect; never stored, logged or shown."""

    connector: Connector
    use: Mapping[str, Any]


@dataclass(frozen=True)
class ConnectorCommands:
    database: Database
    keys: KeyRing
    references: References
    let_go: LetGo

    async def create(self, workspace: UUID, author: Author, definition: ConnectorDefinition) -> Connector:
        parted = part(known_type(definition.type), definition.config, {})
        async with self.database.transaction(workspace) as tx:
            masked = definition.model_copy(update={"config": parted.config})
            connector = await store.add(tx, workspace, new_id(), masked, author)
            await self._keep_secrets(tx, connector, parted)
            created = ConnectorCreated(connector_id=connector.id, name=connector.name, type=definition.type)
            await outbox.emit(tx, workspace, connector.id, created)
            await _audit(tx, connector, author, "connector.created")
            return connector

    async def save(self, workspace: UUID, reference: str, author: Author, edit: Edit[ConnectorDefinition]) -> Connector:
        """A new version; the same definition again, secrets included, changes nothing."""
        async with self.database.transaction(workspace) as tx:
            before = await store.get(tx, workspace, reference, lock=True)
            edit.expect(before.version)
            wanted = edit.change(before)
            if wanted.type != before.definition.type:
                message = f"stays {before.definition.type!r}: make another connector for another type"
                wrong = FieldError("type", message, "type-fixed")
                raise Invalid("connector-type-fixed", "The type of a connector cannot be changed.", errors=[wrong])
            kept = await self._open_secrets(tx, before)
            parted = part(known_type(wanted.type), wanted.config, kept)
            masked = wanted.model_copy(update={"config": parted.config})
            if masked == before.definition and dict(parted.secrets) == kept:
                return before
            after = await store.save(tx, before, masked)
            await self._keep_secrets(tx, after, parted)
            await store.forget_found(tx, after)
            updated = ConnectorUpdated(connector_id=after.id, name=after.name, type=wanted.type)
            await outbox.emit(tx, workspace, after.id, updated)
            await _audit(tx, after, author, "connector.updated")
            return after

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
            await _audit(tx, connector, author, "connector.deleted")

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


async def _audit(tx: Connection, connector: Connector, author: Author, action: str) -> None:
    detail = {"name": connector.name, "type": connector.definition.type, "version": connector.version}
    await outbox.audit(tx, connector.workspace_id, author, Audited(action, "connector", connector.id, detail))
