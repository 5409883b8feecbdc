"""A run is stopped by force while its COMMIT is under way: its end says what the destination holds."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.dataplane.failpoints import VARIABLE
from dataaggregator.settings import Settings
from services.executor.attempt import ASKED_TO_STOP
from services.executor.domain import Status
from tests.faults import invariants
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import MODES, TABLE, Files, Warehouse, WriteMode, definition
from tests.integration.commits import Held, commits_held
from tests.integration.control import until
from tests.integration.executor.place import Place, open_place

pytestmark = pytest.mark.faults

OLD, NEW = range(1, 51), range(31, 101)
TIMEOUT_SECONDS = 12.0


@dataclass(frozen=True)
class Setting:
    """A destination with old rows, a source with new ones, and what the one must hold with and without the other."""

    settings: Settings
    warehouse: Warehouse
    files: Files
    write: WriteMode
    before: str
    after: str


@pytest.fixture
async def setting(settings: Settings, warehouse: Warehouse, files: Files, chance: random.Random) -> Setting:
    write = chance.choice([mode for mode in MODES if mode != "swap"])  # a trigger stays on the table it is on
    old, new = files.write("old", OLD), files.write("new", NEW)
    await warehouse.fill(TABLE, write, old)
    files.show(new)
    oracle = await warehouse.make_oracle(TABLE, write, old)
    await warehouse.connection.execute(f"ALTER TABLE {oracle} RENAME TO before")
    return Setting(settings, warehouse, files, write, "before", await warehouse.make_oracle(TABLE, write, old, new))


@dataclass(frozen=True)
class Scene:
    """A run of the new rows, at its COMMIT."""

    place: Place
    setting: Setting
    held: Held
    run_id: UUID
    pid: int

    async def asked_to_stop(self) -> bool:
        lines = await self.place.client.get(f"/api/runs/{self.run_id}/logs", limit=500)
        return ASKED_TO_STOP in {line["message"] for line in lines["items"]}

    async def killed(self) -> None:
        async def gone() -> bool:
            return self.pid not in invariants.run_processes()

        await until(gone, "the run process to be ended")

    async def check_succeeded(self) -> None:
        ended = await self.place.ended(self.run_id)
        assert ended.status is Status.SUCCEEDED, await self.place.error_detail(self.run_id)
        await self.check_holds(self.setting.after, self.run_id)

    async def check_holds(self, oracle: str, run_id: UUID | None = None) -> None:
        """`run_id` if it is by the run that it does."""
        loaded = Loaded(TABLE, oracle, None if run_id is None else str(run_id))
        await check_place(self.place, self.setting.warehouse, loaded)


@asynccontextmanager
async def at_commit(setting: Setting, *, timeout: float | None = None, failpoint: str = "") -> AsyncIterator[Scene]:
    async with commits_held(setting.warehouse.url, TABLE) as held:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(VARIABLE, failpoint)
            async with open_place(setting.settings, working=True) as place:
                await invariants.first_run_process()
                environment.delenv(VARIABLE)
                asked = definition(place, setting.files.folder, setting.warehouse.url, setting.write)
                run = await place.queue(definition={**asked, "timeout_seconds": timeout})
                await until(held.waiting, "the COMMIT to be under way")

                async def noted() -> dict[str, Any] | None:
                    return (await place.run_now(run.run_id)).process

                process = await until(noted, "the run process to be noted")
                yield Scene(place, setting, held, run.run_id, process["pid"])


@pytest.mark.tries(1, 10)
async def test_a_commit_that_ends_in_time_makes_a_cancelled_run_succeed(setting: Setting) -> None:
    async with at_commit(setting) as scene:
        await scene.place.cancel(scene.run_id)
        await until(scene.asked_to_stop, "the run process to be asked")
        await scene.held.release()
        await scene.check_succeeded()
        assert "attempt_failed" not in await scene.place.said(scene.run_id)


@pytest.mark.tries(1, 10)
@pytest.mark.parametrize("timeout", [None, TIMEOUT_SECONDS])
async def test_a_run_killed_in_its_commit_has_succeeded_if_the_rows_are_there(
    setting: Setting, timeout: float | None
) -> None:
    async with at_commit(setting, timeout=timeout) as scene:
        if timeout is None:
            await scene.place.cancel(scene.run_id)
        await scene.killed()
        await scene.held.release()
        await scene.check_succeeded()


@pytest.mark.tries(1, 10)
@pytest.mark.parametrize("timeout", [None, TIMEOUT_SECONDS])
async def test_a_run_killed_in_its_commit_ends_as_wished_if_the_rows_are_not_there(
    setting: Setting, timeout: float | None
) -> None:
    """Its COMMIT hangs on; whoever asks ends it, so that it cannot come true afterwards."""
    async with at_commit(setting, timeout=timeout) as scene:
        if timeout is None:
            await scene.place.cancel(scene.run_id)
        ended = await scene.place.ended(scene.run_id)
        await scene.held.release()
        wished = (Status.CANCELLED, None) if timeout is None else (Status.TIMED_OUT, "run-timeout")
        assert (ended.status, await scene.place.error(scene.run_id)) == wished
        await scene.check_holds(setting.before)


@pytest.mark.tries(1, 10)
async def test_a_cancelled_run_whose_process_dies_after_the_commit_has_succeeded(setting: Setting) -> None:
    async with at_commit(setting, failpoint="load.after_commit") as scene:
        await scene.place.cancel(scene.run_id)
        await scene.held.release()
        await scene.check_succeeded()
        assert "attempt_failed" in await scene.place.said(scene.run_id)
