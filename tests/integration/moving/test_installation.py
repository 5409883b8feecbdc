"""Whatever an installation's tables hold comes out of one database and into an empty one, whole or not at all."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from dataaggregator.db import migrate
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.errors import Conflict, Invalid, Permanent, PlatformError
from dataaggregator.ids import new_id
from dataaggregator.moving.archive import ArchiveReader, ArchiveWriter
from dataaggregator.moving.installation import pack, unpack
from dataaggregator.secrets import KeyRing
from tests.conftest import SERVICES
from tests.sql import execute, stored

KEY = "only-for-tests-only-for-tests-only-for-tests"
KEYS = KeyRing(KEY)
STRANGE = "tab\t newline\n backslash\\ \\N quote' \" é 𝄞 \x7f"
SEED = """
    INSERT INTO auth.workspaces VALUES ('{workspace}', 'default', now(), NULL);
    INSERT INTO auth.users VALUES ('{user}', '{workspace}', 'a@b', 'a@b', $x${strange}$x$, 'hash', true, NULL,
        '2026-01-01 00:00:00.123456+00', 'infinity', NULL, 9223372036854775807);
    INSERT INTO auth.members VALUES ('{workspace}', '{user}', 'admin', now());
    INSERT INTO auth.audit SELECT '{workspace}', n, now(), '\\x00ff5c6e', '\\x', '\\x00' FROM generate_series(1, 3) n;
    INSERT INTO gateway.feed (event_id, workspace_id, type, subject, event, appended_at)
        SELECT gen_random_uuid(), '{workspace}', 't', 's', jsonb_build_object('text', $x${strange}$x$, 'n', n), now()
        FROM generate_series(1, 20000) n;
    UPDATE gateway.feed_floor SET position = 7;
    INSERT INTO scheduler.outbox (id, workspace_id, type, source, subject, sequence, time, data)
        VALUES (gen_random_uuid(), '{workspace}', 't', 'scheduler', 's', 1, now(), '{{"z": 1,  "a": 1e400}}')"""


@pytest.fixture
async def other_database_url(postgres_server: EmbeddedPostgres, template_database: str) -> AsyncIterator[str]:
    name = "moved_here"
    await execute(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy")
    yield postgres_server.url.rpartition("/")[0] + f"/{name}"
    await execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def archive(database_url: str, tmp_path: Path) -> Path:
    """Of an installation with rows in it, and two files of a run."""
    await execute(database_url, SEED.format(workspace=new_id(), user=new_id(), strange=STRANGE))
    home = tmp_path / "home"
    for place in ("runs/one/quarantine/0001.parquet", "kept/two/three.json", "postgres/data/base"):
        (home / place).parent.mkdir(parents=True)
        (home / place).write_bytes(os.urandom(100_000))
    os.utime(home / "kept/two/three.json", (1e9, 1e9))
    moved = await pack(database_url, home, KEYS, tmp_path / "it.archive")
    assert (moved.rows, moved.files) == (20_008, 2)
    return tmp_path / "it.archive"


def held_by(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_changed(archive: Path, place: int) -> Path:
    """A copy with one byte changed, so far from its end."""
    whole = bytearray(archive.read_bytes())
    whole[-place] ^= 1
    changed = archive.with_suffix(".changed")
    changed.write_bytes(whole)
    return changed


async def forced(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM pg_class WHERE relforcerowsecurity")
        return count
    finally:
        await connection.close()


async def test_every_row_and_file_is_there_and_counting_goes_on(
    archive: Path, database_url: str, other_database_url: str, tmp_path: Path
) -> None:
    isolated = await forced(other_database_url)
    moved = await unpack(other_database_url, tmp_path / "there", KEYS, archive)
    assert (moved.rows, moved.files, moved.key_outdated) == (20_008, 2, False)
    assert sorted(await stored(other_database_url)) == sorted(await stored(database_url))
    there = held_by(tmp_path / "there")
    assert there == {name: held for name, held in held_by(tmp_path / "home").items() if not name.startswith("postgres")}
    assert (tmp_path / "there/kept/two/three.json").stat().st_mtime == 1e9
    assert await forced(other_database_url) == await forced(database_url) == isolated > 0
    connection = await asyncpg.connect(other_database_url)
    try:
        last = await connection.fetchval("SELECT nextval(pg_get_serial_sequence('gateway.feed', 'position'))")
        assert last == 20_001
    finally:
        await connection.close()


async def test_an_owner_who_is_no_superuser_can_import(
    archive: Path, database_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    await execute(
        postgres_server.url,
        "CREATE ROLE mover LOGIN PASSWORD 'mover'",
        "GRANT dataaggregator_workspace, dataaggregator_platform TO mover",
        "CREATE DATABASE of_mover OWNER mover",
    )
    where = postgres_server.url.rpartition("@")[2].rpartition("/")[0]
    url = f"postgresql://mover:mover@{where}/of_mover"
    try:
        for folder in sorted(SERVICES.glob("*/migrations")):
            await migrate.upgrade(url, folder.parent.name, folder)
        await unpack(url, tmp_path / "there", KEYS, archive)
        assert sorted(await stored(database_url)) == sorted(
            await stored(postgres_server.url.rpartition("/")[0] + "/of_mover")
        )
    finally:
        await execute(postgres_server.url, "DROP DATABASE of_mover WITH (FORCE)", "DROP ROLE mover")


async def refused(url: str, home: Path, archive: Path, keys: KeyRing = KEYS) -> PlatformError:
    """Nothing has changed there."""
    before = sorted(await stored(url)), held_by(home)
    with pytest.raises(PlatformError) as caught:
        await unpack(url, home, keys, archive)
    assert (sorted(await stored(url)), held_by(home)) == before
    return caught.value


async def test_what_is_not_empty_is_left_alone(archive: Path, other_database_url: str, tmp_path: Path) -> None:
    workspace = new_id()
    await execute(
        other_database_url,
        f"INSERT INTO auth.workspaces VALUES ('{workspace}', 'mine', now(), NULL)",
        f"INSERT INTO auth.members SELECT '{workspace}', id, 'admin', now() FROM auth.users",
        f"INSERT INTO gateway.feed (event_id, workspace_id, type, subject, event, appended_at)"
        f" VALUES ('{new_id()}', '{workspace}', 't', 's', '{{}}', now())",
    )
    error = await refused(other_database_url, tmp_path / "there", archive)
    assert (type(error), error.code, "gateway.feed" in error.detail) == (Conflict, "installation-not-empty", True)


async def test_what_runs_is_left_alone(
    archive: Path, other_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataaggregator.moving.tables.ALONE_SECONDS", 0.2)
    service = await asyncpg.connect(other_database_url)
    try:
        error = await refused(other_database_url, tmp_path / "there", archive)
    finally:
        await service.close()
    assert (type(error), error.code) == (Conflict, "installation-running")


async def test_another_version_is_told_by_its_schemas(archive: Path, other_database_url: str, tmp_path: Path) -> None:
    await execute(other_database_url, "UPDATE scheduler.alembic_version SET version_num = '0001'")
    error = await refused(other_database_url, tmp_path / "there", archive)
    assert (error.code, "scheduler" in error.detail) == ("database-not-migrated", True)
    await execute(
        other_database_url,
        f"UPDATE scheduler.alembic_version SET version_num = '{migrate.head(SERVICES / 'scheduler/migrations')}'",
    )
    other = tmp_path / "other.archive"
    with archive.open("rb") as source, other.open("wb") as target:
        writer = ArchiveWriter(target, KEYS)
        for head, chunks in ArchiveReader(source, KEYS).parts():
            later = {"schemas": {**head["schemas"], "scheduler": "9999"}} if head["part"] == "manifest" else {}
            writer.head({**head, **later})
            for chunk in chunks:
                writer.data(chunk)
        writer.end()
    error = await refused(other_database_url, tmp_path / "there", other)
    assert (error.code, "scheduler 9999 there" in error.detail) == ("archive-other-version", True)


async def test_a_damaged_archive_and_another_key_change_nothing(
    archive: Path, other_database_url: str, tmp_path: Path
) -> None:
    for cut in (1, 200_000, 1_000_000):
        error = await refused(other_database_url, tmp_path / "there", with_changed(archive, cut))
        assert (type(error), error.code) == (Invalid, "archive-damaged")
    error = await refused(other_database_url, tmp_path / "there", archive, KeyRing("x" * 40))
    assert error.code == "archive-other-key"


async def test_an_import_that_is_killed_leaves_nothing_and_the_next_one_succeeds(
    archive: Path, database_url: str, other_database_url: str, tmp_path: Path
) -> None:
    """It dies when its files are in place and its rows are not committed."""
    before = sorted(await stored(other_database_url))
    home = tmp_path / "there"
    program = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from dataaggregator.moving import folders, installation\n"
        "from dataaggregator.secrets import KeyRing\n"
        "def die(self):\n    settle(self)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "settle, folders.Arriving.settle = folders.Arriving.settle, die\n"
        f"asyncio.run(installation.unpack({other_database_url!r}, Path({str(home)!r}), KeyRing({KEY!r}),"
        f" Path({str(archive)!r})))\n"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(await stored(other_database_url)) == before
    (home / "runs/one/quarantine/left-over").touch()
    await unpack(other_database_url, home, KEYS, archive)
    assert sorted(await stored(other_database_url)) == sorted(await stored(database_url))
    assert set(held_by(home)) == {"runs/one/quarantine/0001.parquet", "kept/two/three.json"}


async def test_an_export_that_fails_or_is_killed_leaves_no_archive(database_url: str, tmp_path: Path) -> None:
    target = tmp_path / "it.archive"
    with pytest.raises(Permanent):
        await pack(database_url, tmp_path, KEYS, tmp_path / "missing" / "it.archive")
    (tmp_path / "runs").mkdir()
    os.mkfifo(tmp_path / "runs" / "pipe")
    (tmp_path / "runs" / "large").write_bytes(b"")
    os.truncate(tmp_path / "runs" / "large", 4_000_000_000)
    program = (
        "import asyncio\nfrom pathlib import Path\n"
        "from dataaggregator.moving.installation import pack\n"
        "from dataaggregator.secrets import KeyRing\n"
        f"asyncio.run(pack({database_url!r}, Path({str(tmp_path)!r}), KeyRing({KEY!r}), Path({str(target)!r})))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program])
    draft = target.with_name(f".{target.name}.draft")
    deadline = time.monotonic() + 60
    while not (draft.exists() and draft.stat().st_size > 4_000_000):
        assert time.monotonic() < deadline
        assert running.poll() is None
        await asyncio.sleep(0.01)
    running.kill()
    running.wait()
    assert not target.exists()
    os.truncate(tmp_path / "runs" / "large", 10)
    moved = await pack(database_url, tmp_path, KEYS, target)
    assert (moved.files, target.exists(), draft.exists()) == (1, True, False)
    assert target.stat().st_mode & 0o077 == 0
