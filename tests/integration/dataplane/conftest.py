"""What the runner's tests share: run processes, jobs put together from a few words, and a look into PostgreSQL."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.failpoints import VARIABLE
from dataaggregator.dataplane.job import (
    ConnectorUse,
    CursorCommitted,
    JobSettings,
    LogLine,
    Progress,
    RunJob,
    RunOutcome,
    SchemaChange,
)
from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from tests.templates import share

WORKSPACE = UUID(int=7)
MASK_KEY = "0f" * 32
Frames = list[Progress | LogLine | SchemaChange | CursorCommitted]


@dataclass
class Bench:
    """Puts jobs together and has them run, each attempt as the executor would."""

    pool: ProcessPool
    folder: Path
    connectors: dict[UUID, ConnectorUse] = field(default_factory=dict)
    types: dict[str, tuple[UUID, str]] = field(default_factory=dict)
    frames: Frames = field(default_factory=list)

    def connector(self, name: str, type_: str, config: dict[str, Any]) -> None:
        key = uuid4()
        self.connectors[key] = ConnectorUse(type=type_, config=config)
        self.types[name] = (key, type_)

    def job(
        self,
        sources: Mapping[str, Mapping[str, Any]],
        destinations: Sequence[Mapping[str, Any]],
        transformations: Sequence[Mapping[str, Any]] = (),
        **more: Any,
    ) -> RunJob:
        definition = {
            "name": "test",
            "sources": {name: self._resolved(one) for name, one in sources.items()},
            "transformations": list(transformations),
            "destinations": [self._resolved(one) for one in destinations],
            "on_rejected": more.pop("on_rejected", None),
            "parameters": more.pop("declares", {}),
        }
        run = uuid4()
        given = {"run_id": run, "pipeline_id": uuid4(), "epoch": 1, "folder": str(self.folder / str(run))} | more
        given.setdefault("kept", str(self.folder / "kept" / str(given["pipeline_id"])))
        return RunJob(
            workspace_id=WORKSPACE,
            mask_key=MASK_KEY,
            definition=ResolvedPipeline.model_validate(definition),
            connectors=self.connectors,
            settings=JobSettings(egress_private=True, allowed_roots=(str(self.folder),)),
            **given,
        )

    def _resolved(self, one: Mapping[str, Any]) -> dict[str, Any]:
        key, type_ = self.types[one["connector"]]
        rest = {name: value for name, value in one.items() if name != "connector"}
        return {"connector_id": key, "connector_name": one["connector"], "connector_type": type_} | rest

    async def run(self, job: RunJob) -> RunOutcome:
        async with self.pool.take(WORKSPACE) as process:
            return await process.run(job, self.on_frame)

    async def on_frame(self, frame: Progress | LogLine | SchemaChange | CursorCommitted) -> None:
        self.frames.append(frame)

    async def run_armed(self, job: RunJob, failpoint: str) -> RunOutcome:
        """The same in a process that was born with a failpoint armed."""
        with armed(failpoint):
            async with shared_pool(self.folder / "armed", warm=0) as pool, pool.take(WORKSPACE) as process:
                return await process.run(job, self.on_frame)

    def again(self, job: RunJob) -> RunJob:
        """The next attempt, under the next epoch."""
        return job.model_copy(update={"attempt": job.attempt + 1, "epoch": job.epoch + 1})


def pool_of(folder: Path, warm: int = 1) -> AbstractAsyncContextManager[ProcessPool]:
    """With templates of its own."""
    return _open(ProcessPool(PoolSettings(warm=warm, folder=folder)))


def shared_pool(folder: Path, warm: int = 1) -> AbstractAsyncContextManager[ProcessPool]:
    """With the templates of all tests."""
    return _open(share(ProcessPool(PoolSettings(warm=warm, folder=folder))))


@asynccontextmanager
async def _open(pool: ProcessPool) -> AsyncIterator[ProcessPool]:
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


def sandboxes_of(pool: ProcessPool) -> list[int]:
    """The processes of its sandboxes, whichever run process they work for."""
    pid = pool.templates.sandboxes.engine.pid
    if pid is None:
        return []
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def armed(failpoint: str) -> Iterator[None]:
    """The environment of processes started inside."""
    os.environ[VARIABLE] = failpoint
    try:
        yield
    finally:
        del os.environ[VARIABLE]


@pytest.fixture(scope="session")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessPool]:
    async with shared_pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


@pytest.fixture
def bench(pool: ProcessPool, tmp_path: Path) -> Bench:
    return Bench(pool, tmp_path)


@pytest.fixture
async def db(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
def orders(bench: Bench, empty_database_url: str) -> Callable[[int], Awaitable[None]]:
    """A connector `pg` to this test's database, and a source table of orders in it, filled by calling this."""
    bench.connector("pg", "postgres", {"url": empty_database_url})

    async def fill(count: int) -> None:
        connection = await asyncpg.connect(empty_database_url)
        await connection.execute(
            """CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, customer int NOT NULL, amount numeric(12,2),
               note text, placed_at timestamptz NOT NULL)"""
        )
        await connection.execute(
            """INSERT INTO orders SELECT n, n % 1000, (n % 977)::numeric(12,2) / 7, 'note ' || n,
               timestamptz '2026-01-01' + n * interval '1 second'
               FROM generate_series((SELECT coalesce(max(id), 0) + 1 FROM orders), $1::bigint) AS n""",
            count,
        )
        await connection.close()

    return fill


@pytest.fixture
async def erp(bench: Bench, empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The database that is read; the one that is written to is its own schema `raw`, by a connector of its own."""
    for name in ("erp", "house"):
        bench.connector(name, "postgres", {"url": empty_database_url})
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
def pg(bench: Bench, empty_database_url: str) -> Bench:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    return bench
