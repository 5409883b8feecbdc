"""A disk without room, a bomb or an endless loop ends its own run with a plain word, and nobody else's."""

import asyncio
import random
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.settings import Settings
from services.executor.domain import Status, has_ended
from tests.faults import invariants
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import TABLE, Files, Warehouse, definition
from tests.integration.executor.place import Place, open_place

pytestmark = pytest.mark.faults

OLD, NEW = range(1, 201), range(1, 100_001)
ROOM_BYTES = (50_000, 300_000)
SHORT = {"execution_timeout": 5.0, "sandbox_memory_bytes": 512 * 1024**2}
BEGUN_WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Want:
    """What a run lacks, and the codes by which it may say so."""

    codes: set[str]
    steps: list[dict[str, Any]] = field(default_factory=list)
    room: bool = True


ENDLESS = "select count(*) as n from range(1000000000) a, range(1000000000) b where hash(a, b) = 7"
WANTS = {
    "room for its rows": Want({"disk-full"}, room=False),
    "room for rejected rows": Want({"disk-full"}, [{"validate": [{"rule": "none", "check": "id < 0"}]}], room=False),
    "memory": Want({"sandbox-memory"}, [{"derive": {"x": "repeat(name, 200000000 + id::INTEGER)"}}]),
    "an end": Want({"sandbox-timeout", "run-stalled"}, [{"sql": ENDLESS}]),
}


def room(most_bytes: int | None, *, besides: int | None = None) -> None:
    """These processes and those they fork now write no file longer than this, as on a full disk: for any user."""
    for pid in invariants.own_run_processes():
        if pid != besides:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if most_bytes is None else most_bytes, hard))


@pytest.mark.tries(4, 40)
async def test_what_lacks_something_fails_plainly_and_its_neighbour_succeeds(
    settings: Settings, warehouse: Warehouse, files: Files, seed: int, chance: random.Random
) -> None:
    want = list(WANTS.values())[seed % len(WANTS)]
    old, new = files.write("old", OLD), files.write("new", NEW)
    await warehouse.fill(TABLE, "append", old)
    files.show(new)
    settings = settings.model_copy(update=SHORT)
    async with open_place(settings, working=True) as place:
        await invariants.first_run_process()
        if not want.room:
            room(chance.randint(*ROOM_BYTES))
        lacking = await place.queue(definition=lacking_definition(place, files.folder, warehouse.url, want))
        room(None, besides=await begun(place, lacking.run_id))
        neighbour = await place.queue(definition=definition(place, files.folder, warehouse.url, "append"))
        assert (await place.ended(neighbour.run_id)).status is Status.SUCCEEDED
        ended = await place.ended(lacking.run_id)
        assert ended.status in {Status.FAILED, Status.TIMED_OUT}, await place.error_detail(lacking.run_id)
        assert await place.error(lacking.run_id) in want.codes, await place.error_detail(lacking.run_id)
        oracle = await warehouse.make_oracle(TABLE, "append", old, new)
        await check_place(place, warehouse, Loaded(TABLE, oracle, str(neighbour.run_id)))


def lacking_definition(place: Place, folder: Path, warehouse: str, want: Want) -> dict[str, Any]:
    """With two destinations its rows are spooled in the run's folder first."""
    made = definition(place, folder, warehouse, "append")
    (destination,) = made["destinations"]
    made |= {
        "retry": {"attempts": 1},
        "destinations": [{**destination, "stream": f"public.other_{number}"} for number in range(2)],
    }
    if want.steps:
        made["transformations"] = [{"name": "steps", "inputs": ["rows"], "steps": want.steps}]
        made["destinations"] = [{**destination, "stream": "public.other", "input": "steps"}]
    return made


async def begun(place: Place, run_id: UUID) -> int | None:
    """Its run process; None once it has ended."""
    deadline = time.monotonic() + BEGUN_WITHIN_SECONDS
    while time.monotonic() < deadline:
        run = await place.run_now(run_id)
        if run.process is not None:
            return int(run.process["pid"])
        if has_ended(run.status):
            return None
        await asyncio.sleep(0.01)
    raise AssertionError("it was not begun")
