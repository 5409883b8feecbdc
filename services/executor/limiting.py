"""limiting: how many runs may be at work at once with a connector or of a workspace, as their owners say."""

from dataclasses import replace
from uuid import UUID

from dataaggregator.bus.audit import audit
from dataaggregator.contracts.capacity import RunLimit
from dataaggregator.db import Connection, Database, after_commit
from dataaggregator.definition import Audited, Author
from services.executor.commands import SCHEMA
from services.executor.store import lanes, runs
from services.executor.store.lanes import Limit


async def change(tx: Connection, limit: Limit) -> None:
    """From now on it counts, those who are at work included: where they are more than it lets, nobody begins until
    they are no more."""
    before = await lanes.find_limit(tx, limit.holder)
    if before is not None and before.told > limit.told:
        return
    if (None if before is None else before.most) == limit.most:
        await lanes.save_limit(tx, limit)
        return
    await lanes.hold_claims(tx)
    await lanes.save_limit(tx, limit)
    await lanes.lay(tx, limit)
    if limit.most is None:
        await lanes.unpark_all(tx, limit.holder)
    else:
        await lanes.unpark(tx)
    await runs.wake(tx)


async def move_up(tx: Connection) -> None:
    """Let those who hold a lane beyond a lowered limit have one within it as soon as one is free: until then nobody
    else may begin."""
    if not await lanes.list_late(tx):
        return
    await lanes.take_turn(tx)
    await lanes.hold_claims(tx)
    for limit in await lanes.list_late(tx):
        await lanes.lay(tx, limit)


async def change_connector(tx: Connection, limit: Limit) -> None:
    """As its owner says with the event in that place; one that comes late changes nothing."""
    await lanes.take_turn(tx)
    await change(tx, limit)


async def forget_connector(tx: Connection, connector: UUID) -> None:
    await lanes.take_turn(tx)
    await lanes.remove_limit(tx, connector)
    await lanes.unpark_all(tx, connector)


class WorkspaceLimits:
    """`installation` is what no workspace may exceed; its admins may say less."""

    def __init__(self, database: Database, installation: int | None) -> None:
        self._database = database
        self._installation = installation
        self._known: set[UUID] = set()

    async def adopt(self) -> None:
        """Let the setting of this start count for the workspaces there are."""
        async with self._database.platform() as tx:
            await lanes.take_turn(tx)
            for limit in await lanes.list_workspaces(tx):
                most = self._effective(limit.asked)
                if most != limit.most:
                    await change(tx, replace(limit, most=most))

    async def expect(self, tx: Connection, workspace: UUID) -> None:
        """A run of it comes: one that nobody has heard of yet has the installation's limit from its first run on."""
        if self._installation is None or workspace in self._known:
            return
        await lanes.take_turn(tx)
        if await lanes.find_limit(tx, workspace) is None:
            await change(tx, self._limit(workspace, None))
        after_commit(tx, lambda: self._known.add(workspace))

    async def get(self, workspace: UUID) -> RunLimit:
        async with self._database.transaction(workspace) as tx:
            found = await lanes.find_limit(tx, workspace)
        return self._told(None if found is None else found.asked)

    async def set(self, workspace: UUID, author: Author, asked: int | None) -> RunLimit:
        async with self._database.transaction(workspace) as tx:
            await lanes.take_turn(tx)
            await change(tx, self._limit(workspace, asked))
            deed = Audited("workspace.run_limit_set", "workspace", workspace, {"runs": asked})
            await audit(tx, SCHEMA, workspace, author, deed)
        return self._told(asked)

    def _limit(self, workspace: UUID, asked: int | None) -> Limit:
        return Limit(workspace, workspace, "workspace", "", asked, self._effective(asked))

    def _effective(self, asked: int | None) -> int | None:
        return min((most for most in (asked, self._installation) if most is not None), default=None)

    def _told(self, asked: int | None) -> RunLimit:
        return RunLimit(runs=asked, installation=self._installation, effective=self._effective(asked))
