"""What dead predecessors left is swept, what outlived its retention goes, and what is still needed stays."""

import io
import os
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from dataaggregator.run_store.local import LocalRunStore
from services.executor.cleaner import Cleaner, SpillFolder
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.folders import KeptFolders, RunFolders
from services.executor.store import logs
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run

Claim = Callable[..., Awaitable[Run]]
EndedBefore = Callable[[int], Awaitable[UUID]]


@pytest.fixture
def folders(tmp_path: Path) -> RunFolders:
    return RunFolders(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> LocalRunStore:
    (tmp_path / "store").mkdir()
    return LocalRunStore(tmp_path / "store")


@pytest.fixture
def kept(tmp_path: Path) -> KeptFolders:
    return KeptFolders(tmp_path)


@pytest.fixture
def cleaner(database: Database, folders: RunFolders, kept: KeptFolders, store: LocalRunStore) -> Cleaner:
    return Cleaner(database, folders, kept, 30, store)


@pytest.fixture
def ended_before(claimed: Claim, attempts: Attempts, database: Database) -> EndedBefore:
    """A run that ended so many days ago."""

    async def end(days: int) -> UUID:
        run = await claimed()
        await attempts.record(run, AttemptEnd(End.CANCELLED))
        async with database.platform() as tx:
            statement = "UPDATE executor.runs SET finished_at = now() - make_interval(days => $2) WHERE run_id = $1"
            await tx.execute(statement, run.run_id, days)
        return run.run_id

    return end


def fill(folders: RunFolders, run_id: UUID) -> Path:
    folder = folders.make(run_id)
    for name in ("quarantine", "spool"):
        (folder / name).mkdir()
        (folder / name / "0001.parquet").write_bytes(b"rows")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_a_run_that_goes_on_keeps_its_folder_and_an_ended_one_its_rejected_rows(
    claimed: Claim, attempts: Attempts, database: Database, folders: RunFolders, kept: KeptFolders
) -> None:
    ended = await claimed()
    await attempts.record(ended, AttemptEnd(End.CANCELLED))
    going = await claimed()
    unknown = new_id()
    of_ended, of_going, of_unknown = (fill(folders, run) for run in (ended.run_id, going.run_id, unknown))
    await Cleaner(database, folders, kept, retention_days=30).sweep()
    assert names(of_ended) == ["quarantine"]
    assert names(of_going) == ["quarantine", "spool"]
    assert not of_unknown.exists()


async def test_after_the_retention_logs_and_rejected_rows_go_and_the_run_stays(
    claimed: Claim, attempts: Attempts, database: Database, folders: RunFolders, kept: KeptFolders
) -> None:
    run = await claimed()
    folder = fill(folders, run.run_id)
    async with database.transaction(run.workspace_id) as tx:
        line = NewLine(1, run.queued.queued_at, "info", "a line", {})
        await logs.add_lines(tx, run.workspace_id, [logs.RunLines(run.run_id, run.epoch, [line])])
    await attempts.record(run, AttemptEnd(End.CANCELLED))
    await Cleaner(database, folders, kept, retention_days=30).clean()
    assert folder.exists()
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET finished_at = now() - interval '31 days'")
    await Cleaner(database, folders, kept, retention_days=30).clean()
    assert not folder.exists()
    async with database.platform() as tx:
        assert await logs.count_lines(tx, run.run_id) == 0
        assert await tx.fetchval("SELECT count(*) FROM executor.runs") == 1


async def test_after_the_retention_rejected_rows_go_from_the_run_store_as_well(
    cleaner: Cleaner, ended_before: EndedBefore, store: LocalRunStore
) -> None:
    old, new = [await ended_before(days) for days in (31, 29)]
    for run_id in (old, new):
        await store.put(f"{run_id}/quarantine/1/0001.parquet", io.BytesIO(b"rows"))
    await cleaner.clean()
    assert list(await store.folders()) == [str(new)]


async def test_what_a_store_that_was_away_still_holds_goes_when_it_is_back(
    cleaner: Cleaner,
    ended_before: EndedBefore,
    folders: RunFolders,
    store: LocalRunStore,
    tmp_path: Path,
) -> None:
    """And what lies in the run folder of another executor, when that starts again."""
    old = await ended_before(31)
    await store.put(f"{old}/quarantine/1/0001.parquet", io.BytesIO(b"rows"))
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(Transient):
        await cleaner.clean()
    (tmp_path / "away").rename(tmp_path / "store")
    folder = fill(folders, old)
    await cleaner.sweep()
    assert list(await store.folders()) == []
    assert not folder.exists()


async def test_what_another_installation_may_have_stored_stays_for_the_retention(
    cleaner: Cleaner, store: LocalRunStore, tmp_path: Path
) -> None:
    """Or this one, before its database was set back; and what is no run's is nobody's business."""
    fresh, old = str(new_id()), str(new_id())
    for folder in (fresh, old, "not-a-run"):
        await store.put(f"{folder}/quarantine/1/0001.parquet", io.BytesIO(b"rows"))
    at = time.time() - timedelta(days=31).total_seconds()
    for folder in (old, "not-a-run"):
        os.utime(tmp_path / "store" / folder / "quarantine/1/0001.parquet", (at, at))
    await cleaner.sweep()
    assert sorted(await store.folders()) == sorted([fresh, "not-a-run"])


async def test_what_is_kept_of_a_source_goes_when_no_run_has_used_it_for_the_retention(kept: KeptFolders) -> None:
    used, unused = kept.path(new_id()) / "stream", kept.path(new_id()) / "stream"
    for folder, age in ((used, 1), (unused, 31)):
        folder.mkdir(parents=True)
        for name in ("1.json", "1.parquet"):
            (folder / name).touch()
            at = time.time() - timedelta(days=31 if name == "1.parquet" else age).total_seconds()
            os.utime(folder / name, (at, at))
    kept.clean(timedelta(days=30))
    assert names(used) == ["1.json", "1.parquet"]
    assert names(unused) == []


async def test_spill_of_a_process_that_is_gone_is_removed_and_of_a_live_one_kept(tmp_path: Path) -> None:
    """Which is which the lock says, not the process' number: in another container that number is somebody else."""
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "lock").touch()
    alive, own = SpillFolder(tmp_path), SpillFolder(tmp_path)
    await alive.open()
    await own.open()
    assert names(tmp_path) == sorted(["lock", alive.path.name, own.path.name])
    await alive.close()
    await own.close()
    assert names(tmp_path) == ["lock"]
