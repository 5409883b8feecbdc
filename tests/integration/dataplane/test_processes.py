"""The pool: warm ahead, one workspace in a process's life, every end explained."""

from pathlib import Path
from uuid import UUID

import pytest

from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.errors import Permanent

from .conftest import pool_of

ONE, OTHER = UUID(int=1), UUID(int=2)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_process_works_for_one_workspace_only(tmp_path: Path) -> None:
    async with pool_of(tmp_path) as pool:
        async with pool.take(ONE) as process:
            first = process.pid
        async with pool.take(OTHER) as process:
            assert process.pid != first
        async with pool.take(ONE) as process:
            assert process.pid == first


async def test_a_killed_process_is_never_given_out_again(tmp_path: Path) -> None:
    async with pool_of(tmp_path) as pool:
        async with pool.take(ONE) as process:
            first = process.pid
            process.kill()
        async with pool.take(ONE) as process:
            assert process.pid != first
    assert not alive(first)


async def test_more_memory_than_declared_ends_the_process_and_says_so(tmp_path: Path) -> None:
    pool = ProcessPool(PoolSettings(warm=0, folder=tmp_path, memory_bytes=1024 * 1024))
    await pool.open()
    try:
        with pytest.raises(Permanent) as ended:
            async with pool.take(ONE):
                pass
        assert ended.value.code == "run-memory-exceeded"
    finally:
        await pool.close()


async def test_a_closed_pool_leaves_neither_process_nor_spill_behind(tmp_path: Path) -> None:
    async with pool_of(tmp_path) as pool, pool.take(ONE) as process:
        pid = process.pid
    assert not alive(pid)
    assert names_in(tmp_path) == []
