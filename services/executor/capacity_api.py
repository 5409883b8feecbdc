"""capacity_api: the executor's HTTP door: limits of workspaces, the executors there are, what queued runs wait for."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.capacity import (
    EXECUTORS_PATH,
    WAITING_PATH,
    Capacity,
    RunLimit,
    RunLimitWish,
    WaitingFor,
    WaitingRuns,
    WaitingWish,
)
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import author
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.executor.limiting import WorkspaceLimits
from services.executor.store import executors
from services.executor.store.executors import Held

COUNTED = 1_000


@dataclass(frozen=True)
class CapacityApi:
    database: Database
    limits: WorkspaceLimits

    def routes(self) -> Sequence[Route]:
        path, good, tag = "/api/run-limits", {200: RunLimit}, "workspaces"
        return (
            Route(
                "GET", path, self.get_limit, "How many runs of the workspace may be at work at once", tag,
                Permission.RUNS_READ, answers=good,
            ),
            Route(
                "PUT", path, self.set_limit, "Limit how many runs of the workspace are at work at once", tag,
                Permission.IDENTITY_ADMIN, body=RunLimitWish, answers=good,
                description="Over all executors. Those at work count; where they are more, none begins until they are "
                "fewer. Those that wait say so in `waiting_for`.",
            ),
            Route(
                "GET", EXECUTORS_PATH, self.executors, "Which executors there are", "internal", None,
                answers={200: Capacity}, internal=True,
            ),
            Route(
                "POST", WAITING_PATH, self.waiting, "What queued runs wait for", "internal", None,
                body=WaitingWish, answers={200: WaitingRuns}, internal=True,
            ),
        )  # fmt: skip

    async def get_limit(self, call: Call) -> Answer:
        return Answer(await self.limits.get(call.workspace))

    async def set_limit(self, call: Call) -> Answer:
        wish = call.body_as(RunLimitWish)
        return Answer(await self.limits.set(call.workspace, author(call), wish.runs))

    async def executors(self, _: Call) -> Answer:
        async with self.database.platform() as tx:
            there, unclaimed = await executors.list_all(tx), await executors.list_unclaimed(tx, COUNTED)
        return Answer(Capacity(executors=tuple(there), unclaimed=tuple(unclaimed)))

    async def waiting(self, call: Call) -> Answer:
        wish = call.body_as(WaitingWish)
        async with self.database.glance() as connection:
            held = await executors.list_held(connection, call.workspace, wish.run_ids)
        return Answer(WaitingRuns(runs={one.run_id: _told(one) for one in held}))


def _told(held: Held) -> WaitingFor:
    if held.kind == "connector":
        code, detail = "connector-busy", f"{held.most} runs may use the connector {held.name} at once, and as many do."
    elif held.kind == "workspace":
        code, detail = "workspace-busy", f"{held.most} runs of this workspace may be at work at once, and as many are."
    else:
        code = "no-executor-with-labels"
        detail = f"No executor that is alive has all of these labels: {', '.join(held.labels)}."
    return WaitingFor(code=code, detail=detail, help=help_section(code))
