"""Transformations, commands: create, save, delete; each one transaction."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.bus import audit as trail
from dataaggregator.contracts.apply import differences
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.compile.graph import compile_transformation
from dataaggregator.db import Connection, Database
from dataaggregator.db.quota import Quota
from dataaggregator.definition import Audited, Author, Edit
from dataaggregator.errors import Conflict, FieldError, Invalid
from dataaggregator.ids import new_id
from services.scheduler import outbox
from services.scheduler.pipelines import material
from services.scheduler.pipelines import store as pipelines
from services.scheduler.quota import NO_QUOTA
from services.scheduler.transformations import store
from services.scheduler.transformations.store import SavedTransformation


@dataclass(frozen=True)
class TransformationCommands:
    database: Database
    quota: Quota = NO_QUOTA

    async def create(
        self, workspace: UUID, author: Author, definition: TransformationDefinition
    ) -> SavedTransformation:
        async with self.database.transaction(workspace) as tx:
            made = await add(tx, workspace, author, definition)
            await self.quota.check(tx, workspace)
            return made

    async def save(
        self, workspace: UUID, reference: str, author: Author, edit: Edit[TransformationDefinition]
    ) -> SavedTransformation:
        """A new version, which the next run of each pipeline that uses it takes; so each must compile with it."""
        async with self.database.transaction(workspace) as tx:
            before = await store.get(tx, workspace, reference, lock=True)
            edit.expect(before.version)
            after = await change(tx, before, author, edit.change(before))
            if after is not before:
                await users_must_compile(tx, after)
                await self.quota.check(tx, workspace)
            return after

    async def delete(self, workspace: UUID, reference: str, author: Author, expect: Callable[[int], None]) -> None:
        async with self.database.transaction(workspace) as tx:
            saved = await store.get(tx, workspace, reference, lock=True)
            expect(saved.version)
            _must_be_unused(saved, await store.used_by(tx, saved), "deleted")
            await store.remove(tx, saved)
            await _audit(tx, saved, author, "transformation.deleted", trail.went(saved))


async def add(
    tx: Connection, workspace: UUID, author: Author, definition: TransformationDefinition
) -> SavedTransformation:
    compile_transformation(definition)
    saved = await store.add(tx, workspace, new_id(), definition, author)
    await _audit(tx, saved, author, "transformation.created", trail.came(saved))
    return saved


async def change(
    tx: Connection, before: SavedTransformation, author: Author, definition: TransformationDefinition
) -> SavedTransformation:
    """Of a locked one; the same definition again changes nothing. Those who use it are not looked at."""
    if definition == before.find_definition():
        return before
    compile_transformation(definition)
    if definition.name != before.name:
        _must_be_unused(before, await store.used_by(tx, before), "renamed")
    after = await store.save(tx, before, definition, author)
    told = trail.changed(after, differences(before.written, after.written))
    await _audit(tx, after, author, "transformation.updated", told)
    return after


def _must_be_unused(saved: SavedTransformation, users: Sequence[str], action: str) -> None:
    if users:
        named = ", ".join(users)
        detail = f"The transformation {saved.name!r} cannot be {action}: pipelines use it: {named}."
        raise Conflict("transformation-in-use", detail)


async def users_must_compile(tx: Connection, saved: SavedTransformation, but: Collection[UUID] = ()) -> None:
    """Raises Invalid for the first pipeline that does not compile with it; `but` are looked at elsewhere."""
    for pipeline in await pipelines.using_transformation(tx, saved.workspace_id, saved.id):
        if pipeline.id in but:
            continue
        try:
            await material.resolved(tx, pipeline)
        except Invalid as error:
            if error.code == "definition-unreadable":  # nothing that is saved here can break what is broken
                continue
            wrong = [
                FieldError(one.field, f"pipeline {pipeline.name}: {one.message}", one.code) for one in error.errors
            ]
            detail = f"The pipeline {pipeline.name!r} uses it and would not compile any more."
            raise Invalid("definition-invalid", detail, errors=wrong) from error


async def _audit(
    tx: Connection, saved: SavedTransformation, author: Author, action: str, detail: Mapping[str, Any]
) -> None:
    await outbox.audit(tx, saved.workspace_id, author, Audited(action, "transformation", saved.id, detail))
