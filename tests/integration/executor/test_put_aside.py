"""A long queue for a full connector goes out of the way: in few looks, and none of them keeps a run waiting."""

from uuid import UUID

import pytest

from dataaggregator.db import Database
from services.executor.commands import Attempts
from services.executor.store import claims, lanes
from tests.integration.executor.conftest import OWNER, Queue
from tests.integration.executor.place import a_run
from tests.integration.executor.plans import nodes_of, rows_read
from tests.integration.executor.test_limits import Limits, taken, using

BACKLOG = 20_000


@pytest.fixture
async def full(database: Database, workspace: UUID) -> UUID:
    """A connector with one lane and a long queue, of which the planner knows nothing yet."""
    connector = await Limits(database, workspace).connector(1)
    async with database.transaction(workspace) as tx:
        await tx.execute(
            """INSERT INTO executor.runs (run_id, workspace_id, pipeline_id, pipeline_name, asked, queued_at, needs,
                   priority)
               SELECT gen_random_uuid(), $1, gen_random_uuid(), 'copy-a', $2, now(), ARRAY[$1, $3::uuid], 1
               FROM generate_series(1, $4)""",
            workspace,
            a_run(definition=using(connector)).model_dump(mode="json"),
            connector,
            BACKLOG,
        )
    return connector


async def count_aside(database: Database) -> int:
    async with database.platform() as tx:
        found: int = await tx.fetchval("SELECT count(*) FROM executor.runs WHERE waits_for IS NOT NULL")
    return found


@pytest.mark.usefixtures("full")
async def test_a_run_behind_a_long_queue_for_a_full_connector_begins_after_few_looks(
    database: Database, queue: Queue, attempts: Attempts
) -> None:
    behind = await queue(priority="low")
    assert len(await taken(attempts, 2)) == 1
    part = claims.TRIES * (lanes.FRONT + 2)
    assert await count_aside(database) <= part, "what was claimed waits for no more than a part"
    begun: list[UUID] = []
    looks = 0
    while not begun:
        seen = await attempts.look(OWNER, 1, ())
        assert seen.begun or seen.due_in_seconds == 0, "it looks again at once"
        begun = [one.run.run_id for one in seen.begun]
        looks += 1
    assert begun == [behind.run_id]
    assert looks <= 1 + BACKLOG // (claims.TRIES * lanes.FRONT_WHERE_NONE_BEGINS)
    assert await count_aside(database) == BACKLOG - 1


async def test_what_is_read_to_put_runs_aside_does_not_grow_with_the_queue(
    full: UUID, database: Database, attempts: Attempts
) -> None:
    [run] = await taken(attempts, 1)
    front, before = 500, await count_aside(database)
    async with database.platform() as tx:
        nodes = await nodes_of(tx, lanes.PARK, [run.run_id], [full], front)
    assert await count_aside(database) == before + front
    assert max(rows_read(node) for node in nodes) <= 2 * front
