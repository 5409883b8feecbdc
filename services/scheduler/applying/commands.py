"""Applying, commands: check everything against the whole that is proposed, then save it in two steps (ADR 0044)."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator.contracts.apply import AskedConnector, Change, refused
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Author
from dataaggregator.errors import Conflict, Denied, Invalid, PlatformError, Transient
from dataaggregator.ids import new_id
from services.scheduler.applying import store
from services.scheduler.applying.domain import Wanted
from services.scheduler.applying.owner import ConnectorsOwner
from services.scheduler.applying.saving import MayUse, Saving
from services.scheduler.pipelines import connectors
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.domain import Connector


@dataclass(frozen=True)
class Asked:
    """Who wants which definitions to be there."""

    workspace: UUID
    author: Author
    wanted: Wanted
    may_use: MayUse


@dataclass(frozen=True)
class Applied:
    changes: Sequence[Change]
    broke_off_at: datetime | None
    """When an apply began that broke off between the services and was not completed before this."""


@dataclass(frozen=True)
class ApplyCommands:
    database: Database
    owner: ConnectorsOwner
    pipelines: PipelineCommands

    async def diff(self, asked: Asked) -> Applied:
        """What `apply` would do; raises Invalid naming all that is wrong."""
        changes = await self._check(asked)
        async with self.database.transaction(asked.workspace) as tx:
            broke_off_at = await store.broke_off(tx, asked.workspace)
        shown = (one if one.outcome != "created" else one.model_copy(update={"id": None}) for one in changes)
        return Applied(_in_order(shown), broke_off_at)

    async def apply(self, asked: Asked) -> Applied:
        """All of it, or nothing; only what breaks off between the two services leaves a half, which is told."""
        await self._tidy(asked.workspace)
        token = new_id()
        async with self.database.transaction(asked.workspace) as tx:
            broke_off_at = await store.claim(tx, asked.workspace, token, asked.author.name)
        async with self._turn(asked.workspace, token):
            planned = await self._check(asked)
            saved = await self._save_connectors(asked, planned, token)
            own = await self._save_own(asked, saved, token)
        return Applied(_in_order([*saved, *own]), broke_off_at)

    async def _tidy(self, workspace: UUID) -> None:
        """Connectors that an apply which broke off has not brought about never were; the others stay."""
        async with self.database.transaction(workspace) as tx:
            expected = await store.expected_in_vain(tx, workspace)
        if not expected:
            return
        there = await self.pipelines.keep(workspace, expected)
        async with self.database.transaction(workspace) as tx:
            await connectors.stay(tx, workspace, {id_: token for id_, token in expected.items() if id_ in there})
            await connectors.forget(tx, workspace, {id_: token for id_, token in expected.items() if id_ not in there})

    @asynccontextmanager
    async def _turn(self, workspace: UUID, token: UUID) -> AsyncIterator[None]:
        """Given back by who has failed; one that could not give it back loses it when its time is over."""
        try:
            yield
        except BaseException:
            async with self.database.transaction(workspace) as tx:
                await store.give_up(tx, workspace, token)
            raise

    async def _check(self, asked: Asked) -> Sequence[Change]:
        """Both services do the whole thing and undo it; connectors count as if they were saved."""
        wanted, wrong = asked.wanted, list(asked.wanted.wrong)
        told: Sequence[Change] = ()
        wish = [AskedConnector(index=one.index, id=new_id(), definition=one.definition) for one in wanted.connectors]
        try:
            told = await self.owner.apply(asked.workspace, asked.author, wish, dry_run=True)
        except Invalid as error:
            if isinstance(error, Denied) or not error.errors:
                raise
            wrong += error.errors
        proposed = {one.definition.name: Connector(one.id, one.definition.name, one.definition.type) for one in wish}
        await self.pipelines.await_connectors(asked.workspace, wanted.connectors_named)
        async with self.database.rehearsal(asked.workspace) as tx:
            work = Saving(tx, asked.workspace, asked.author, wanted, asked.may_use, proposed)
            await work.run()
            if not work.wrong:
                await self._must_fit(tx, asked.workspace, work)
        if wrong := [*wrong, *work.wrong]:
            raise refused(wrong)
        return [*told, *work.changes]

    async def _save_connectors(self, asked: Asked, planned: Sequence[Change], token: UUID) -> Sequence[Change]:
        """In the versions that were checked; a refusal is known to have changed nothing, silence is not."""
        checked = {one.index: one for one in planned if one.kind == "connector"}
        wish = [_in_its_version(one.index, one.definition, checked[one.index]) for one in asked.wanted.connectors]
        known = [Connector(one.id, one.definition.name, one.definition.type) for one in wish]
        async with self.database.transaction(asked.workspace) as tx:
            await connectors.expect(tx, asked.workspace, known, token)
            await store.set_saving(tx, asked.workspace, token, _any_changed(checked.values()))
        try:
            return await self.owner.apply(asked.workspace, asked.author, wish, dry_run=False)
        except (Invalid, Conflict):
            async with self.database.transaction(asked.workspace) as tx:
                new = [one.id for one in checked.values() if one.outcome == "created" and one.id is not None]
                await connectors.forget(tx, asked.workspace, dict.fromkeys(new, token))
                await store.set_saving(tx, asked.workspace, token, False)
            raise

    async def _must_fit(self, tx: Connection, workspace: UUID, work: Saving) -> None:
        """Raises Conflict where what was saved is more than the workspace may have stored."""
        if _any_changed(work.changes):
            await self.pipelines.quota.check(tx, workspace)

    async def _save_own(self, asked: Asked, saved: Sequence[Change], token: UUID) -> Sequence[Change]:
        try:
            await self.pipelines.await_connectors(asked.workspace, {one.name for one in saved})
            async with self.database.transaction(asked.workspace) as tx:
                await store.complete(tx, asked.workspace, token)
                work = Saving(tx, asked.workspace, asked.author, asked.wanted, asked.may_use, {})
                await work.run()
                if work.wrong:
                    raise refused(work.wrong)
                await self._must_fit(tx, asked.workspace, work)
        except PlatformError as error:
            if not _any_changed(saved):
                raise
            raise _half_done(saved, error) from error
        return work.changes


def _in_its_version(index: int, definition: ConnectorDefinition, checked: Change) -> AskedConnector:
    """Under the id, and in place of the version, with which it was checked."""
    before = {"created": 0, "updated": checked.version - 1, "unchanged": checked.version}
    id_ = checked.id or new_id()
    return AskedConnector(index=index, id=id_, definition=definition, version=before[checked.outcome])


def _any_changed(changes: Iterable[Change]) -> bool:
    return any(one.outcome != "unchanged" for one in changes)


def _in_order(changes: Iterable[Change]) -> Sequence[Change]:
    return sorted(changes, key=lambda one: one.index)


def _half_done(saved: Sequence[Change], error: PlatformError) -> PlatformError:
    """Somebody interfered, or a server went, between the services: said plainly, with what would complete it."""
    named = ", ".join(one.name for one in saved if one.outcome != "unchanged")
    detail = (
        f"The connectors {named} are saved, transformations and pipelines are not: {error.detail} "
        "Applying the same again completes it."
    )
    if isinstance(error, Transient):
        return Transient("apply-half-done", detail, retry_after=error.retry_after)
    return Conflict("apply-half-done", detail, errors=error.errors)
