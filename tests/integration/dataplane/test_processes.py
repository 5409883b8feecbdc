"""The pool: warm ahead, one workspace in a process's life, every end explained."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from dataaggregator.dataplane.processes import GROWTH_BYTES, PoolSettings, ProcessPool
from dataaggregator.errors import Permanent, Transient
from tests.integration.bus.rig import eventually
from tests.templates import share

from .conftest import WORKSPACE, Bench, pool_of, sandboxes_of, shared_pool

ONE, OTHER = UUID(int=1), UUID(int=2)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_run_process_knows_nothing_of_the_services_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, addresses and proxies in it would be those of everybody's pipelines."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_ENDPOINT_URL",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "HTTPS_PROXY",
        "SECRET_KEY",
    ):
        monkeypatch.setenv(name, "canary-of-the-installation")
    async with pool_of(tmp_path) as pool, pool.take(WORKSPACE) as process:
        environment = environment_of(process.pid)
    assert "PATH=" in environment
    assert "canary-of-the-installation" not in environment


async def test_a_process_works_for_one_workspace_only(tmp_path: Path) -> None:
    async with shared_pool(tmp_path) as pool:
        async with pool.take(ONE) as process:
            first = process.pid
        async with pool.take(OTHER) as process:
            assert process.pid != first
        async with pool.take(ONE) as process:
            assert process.pid == first


async def test_a_killed_process_is_never_given_out_again(tmp_path: Path) -> None:
    async with shared_pool(tmp_path) as pool:
        async with pool.take(ONE) as process:
            first = process.pid
            process.kill()
        async with pool.take(ONE) as process:
            assert process.pid != first
    assert not alive(first)


async def test_a_process_that_holds_more_and_more_memory_is_given_out_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared_pool(tmp_path) as pool:
        async with pool.take(ONE) as process:
            first = process.pid
        async with pool.take(ONE) as process:
            assert process.pid == first, "as long as it holds no more than after its first job"
            held = process._resident_bytes() + 2 * GROWTH_BYTES
            monkeypatch.setattr(process, "_resident_bytes", lambda: held)
        async with pool.take(ONE) as process:
            assert process.pid != first
    assert not alive(first)


async def test_more_memory_than_declared_ends_the_process_and_says_so(
    tmp_path: Path, bench: Bench, orders: Callable[[int], Awaitable[None]]
) -> None:
    await orders(1)
    job = bench.job({"orders": {"connector": "pg", "stream": "orders"}}, [_copy("public.a")])
    pool = share(ProcessPool(PoolSettings(warm=0, folder=tmp_path, memory_bytes=1024 * 1024)))
    await pool.open()
    try:
        async with pool.take(WORKSPACE) as process, asyncio.timeout(10):
            while process.reusable:  # noqa: ASYNC110 - a watchdog gives no event
                await asyncio.sleep(0.01)
            with pytest.raises(Permanent) as ended:
                await process.run(job, bench.on_frame)
        assert ended.value.code == "run-memory-exceeded"
    finally:
        await pool.close()


async def test_a_closed_pool_leaves_neither_process_nor_spill_behind(tmp_path: Path) -> None:
    async with pool_of(tmp_path) as pool, pool.take(ONE) as process:
        pid = process.pid
    assert not alive(pid)
    assert names_in(tmp_path) == []


async def test_a_process_that_nobody_needs_any_more_is_ended_and_its_template_too(tmp_path: Path) -> None:
    pool = ProcessPool(PoolSettings(warm=0, folder=tmp_path, idle_seconds=0.01))
    await pool.open()
    try:
        async with pool.take(ONE) as process:
            pid = process.pid
        async with asyncio.timeout(10):
            while alive(pid) or pool.templates.runs.pid is not None:  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(0.01)
        async with pool.take(ONE) as process:
            assert process.pid != pid
    finally:
        await pool.close()


async def test_a_sandbox_is_started_for_the_first_job_that_needs_one_and_ahead_from_then_on(
    tmp_path: Path, bench: Bench, orders: Callable[[int], Awaitable[None]]
) -> None:
    await orders(10)
    source = {"orders": {"connector": "pg", "stream": "orders"}}
    filtered = [{"name": "keep", "inputs": ["orders"], "steps": [{"filter": "amount >= 0"}]}]
    kept: list[list[int]] = []
    async with pool_of(tmp_path / "own", warm=0) as pool:
        for destination, steps in (("orders", []), ("keep", filtered), ("keep", filtered)):
            job = bench.job(source, [_copy("public.a") | {"input": destination}], steps)
            async with pool.take(WORKSPACE) as process:
                assert (await process.run(job, bench.on_frame)).status == "succeeded"
                await process.wait_ready()
                kept.append(sandboxes_of(pool))
    assert [len(sandboxes) for sandboxes in kept] == [0, 1, 1]
    assert kept[1] != kept[2], "each serves one job"


async def test_one_job_after_the_other_goes_over_the_same_sessions(
    bench: Bench, orders: Callable[[int], Awaitable[None]], db: asyncpg.Connection
) -> None:
    await orders(10)
    job = bench.job({"orders": {"connector": "pg", "stream": "orders"}}, [_copy("public.a")])
    assert (await bench.run(job)).status == "succeeded"
    before = await _sessions(db)
    for _ in range(3):
        job = bench.job({"orders": {"connector": "pg", "stream": "orders"}}, [_copy("public.a")])
        assert (await bench.run(job)).status == "succeeded"
    assert await _sessions(db) == before
    assert await db.fetchval("SELECT count(*) FROM a") == 40


async def test_a_process_killed_in_a_later_job_leaves_no_half_load(
    tmp_path: Path, bench: Bench, orders: Callable[[int], Awaitable[None]], db: asyncpg.Connection
) -> None:
    await orders(10)
    sources, destinations = {"orders": {"connector": "pg", "stream": "orders"}}, [_copy("public.a")]
    async with shared_pool(tmp_path / "own", warm=0) as pool:
        bench.pool = pool
        assert (await bench.run(bench.job(sources, destinations))).status == "succeeded"
        await orders(300_000)
        await db.execute(STOP_IN_THE_MIDDLE)
        job = bench.job(sources, destinations)
        async with pool.take(WORKSPACE) as process, db.transaction():
            first = process.pid
            assert process.jobs == 1
            await db.execute("SELECT pg_advisory_xact_lock(7)")
            running = asyncio.create_task(process.run(job, _nothing))
            await eventually(lambda: db.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
            process.kill()
            with pytest.raises(Transient) as lost:
                await running
            assert lost.value.code == "run-process-lost"
        assert (await bench.run(bench.again(job))).status == "succeeded"
        async with pool.take(WORKSPACE) as process:
            assert process.pid != first
    assert await db.fetchval("SELECT count(*) FROM a") == 300_010


STOP_IN_THE_MIDDLE = """
    CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
    CREATE TRIGGER stop BEFORE INSERT ON a FOR EACH ROW WHEN (NEW.id = 150000) EXECUTE FUNCTION stop()"""


async def _nothing(_: object) -> None:
    """A frame that nobody asks about."""


def _copy(stream: str) -> dict[str, str]:
    return {"connector": "pg", "stream": stream, "write": "append", "input": "orders"}


async def _sessions(db: asyncpg.Connection) -> set[int]:
    rows = await db.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    return {row["pid"] for row in rows}
