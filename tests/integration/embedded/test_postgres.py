"""The private server of the embedded composition: starts anywhere, keeps its data, leaves nothing behind."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import Mock

import asyncpg
import pytest

from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.errors import Permanent

START_AND_WAIT = """
import sys
from pathlib import Path
from dataaggregator.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        os.sched_yield()


async def test_a_second_start_finds_the_rows_of_the_first(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        await ask(server.url, "create table kept as select 42 as answer")
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert await ask(server.url, "select answer from kept") == 42


async def test_only_the_password_lets_one_in_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url.replace(":", ":x", 2).replace("postgresql:x", "postgresql:"))
        assert stat.S_IMODE((tmp_path / "postgres" / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "postgres").stat().st_mode) == 0o700


async def test_a_guess_at_its_own_password_is_cheap_and_at_those_that_people_choose_is_not(tmp_path: Path) -> None:
    """Its own cannot be guessed, and is checked for each connection of the platform."""
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        await ask(server.url, "create role somebody password 'chosen by a person'")
        stored = "select rolpassword from pg_authid where rolname = "
        assert str(await ask(server.url, f"{stored} current_user")).startswith("SCRAM-SHA-256$1:")
        assert str(await ask(server.url, f"{stored} 'somebody'")).startswith("SCRAM-SHA-256$4096:")


async def test_it_starts_below_a_folder_that_is_closed_to_others_and_leaves_it_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgres(closed / "postgres") as server:
        assert await ask(server.url, "select 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_the_server_ends_when_its_platform_is_killed(tmp_path: Path) -> None:
    platform = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(tmp_path / "postgres")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert platform.stdout is not None
    server_pid = int(platform.stdout.readline())
    assert Path(f"/proc/{server_pid}").exists()
    platform.send_signal(signal.SIGKILL)
    platform.communicate()
    wait_until(lambda: not Path(f"/proc/{server_pid}").exists())


async def test_a_start_right_after_a_kill_waits_for_the_old_server(tmp_path: Path) -> None:
    platform = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(tmp_path / "postgres")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert platform.stdout is not None
    platform.stdout.readline()
    platform.kill()
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert await ask(server.url, "select 1") == 1
    platform.communicate()


def test_a_folder_that_cannot_be_made_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Permanent, match="DATAAGGREGATOR_HOME"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()


async def test_a_first_start_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "draft").mkdir(parents=True)
    (tmp_path / "postgres" / "draft" / "half").write_text("half of a data folder")
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert await ask(server.url, "select 1") == 1


async def test_a_first_start_that_was_cut_off_before_its_database_was_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut:
        cut.setattr(EmbeddedPostgres, "_run_single_user", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            EmbeddedPostgres(tmp_path / "postgres", durable=False).start()
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        assert await ask(server.url, "select 1") == 1


@pytest.mark.parametrize("durable", [True, False])
def test_what_a_first_start_makes_is_on_the_disk_unless_that_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    commands: list[str] = []
    command = EmbeddedPostgres._command

    def noted(server: EmbeddedPostgres, program: str, arguments: Sequence[str]) -> list[str]:
        commands.extend(arguments)
        return command(server, program, arguments)

    monkeypatch.setattr(EmbeddedPostgres, "_command", noted)
    with EmbeddedPostgres(tmp_path / "postgres", durable=durable):
        pass
    assert {"--no-sync", "-F", "fsync=off"}.intersection(commands) == (
        set() if durable else {"--no-sync", "-F", "fsync=off"}
    )
