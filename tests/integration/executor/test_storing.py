"""Rejected rows in the run store: any executor shows and replays them, whoever rejected them and what became of it."""

import asyncio
import io
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from dataaggregator.client import ApiError
from dataaggregator.run_store import RunStore
from dataaggregator.settings import Settings
from services.executor import storing, worker
from services.executor.domain import Status
from services.executor.folders import RunFolders
from services.executor.run_store import run_store_of
from tests.buckets import S3Endpoint
from tests.faults.proxy import Proxy
from tests.integration.executor.place import Place, open_place

ROWS = "SELECT i::bigint AS id, (i / 4.0)::numeric(10,2) AS price FROM generate_series(1, 50) i"
SOON = {"lease_seconds": 8.0, "fence_seconds": 6.0, "heartbeat_seconds": 1.0}
"""A dead executor is noticed."""
RULES = [{"rule": "cheap", "check": "price <= 10"}, {"rule": "odd", "check": "id <> 20"}]


@dataclass
class Rig:
    """Executors with a home each, and the store between them, which can be cut off."""

    settings: Settings
    proxy: Proxy
    warehouse: str

    def at(self, home: str) -> Settings:
        folder = self.settings.home / home
        folder.mkdir(exist_ok=True)
        return self.settings.model_copy(update={"home": folder})

    @property
    def store(self) -> RunStore:
        found = run_store_of(self.settings)
        assert found is not None
        return found

    async def away(self) -> None:
        await self.proxy.refuse()
        self.proxy.cut()

    async def rows(self, statement: str) -> list[Any]:
        connection = await asyncpg.connect(self.warehouse)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()


@pytest.fixture
async def rig(settings: Settings, s3: S3Endpoint, empty_database_url: str) -> AsyncIterator[Rig]:
    bucket = f"b{settings.home.name.replace('_', '-').lower()[:40]}{time.monotonic_ns()}"
    s3.make_bucket(bucket)
    async with Proxy(urlsplit(s3.address).port or 0) as proxy:
        store = {
            "run_store": f"s3://{bucket}/rejected",
            "run_store_endpoint": f"http://127.0.0.1:{proxy.port}",
            "run_store_credentials": SecretStr(json.dumps(s3.key)),
        }
        yield Rig(settings.model_copy(update=store), proxy, empty_database_url)


def definition(place: Place, rig: Rig, *rules: dict[str, Any]) -> dict[str, Any]:
    """Of fifty rows ten are too dear and one is not odd."""
    pg = place.connect("postgres", url=rig.warehouse)
    return {
        "name": "prices",
        "sources": {"prices": {**pg, "query": ROWS}},
        "transformations": [{"name": "clean", "inputs": ["prices"], "steps": [{"validate": list(rules or RULES)}]}],
        "destinations": [{**pg, "stream": "public.kept", "input": "clean", "write": "append"}],
    }


async def ran(place: Place, rig: Rig, **changes: Any) -> Any:
    queued = await place.queue(**{"definition": definition(place, rig), **changes})
    run = await place.ended(queued.run_id)
    assert run.status is Status.SUCCEEDED, await place.error_detail(queued.run_id)
    return queued


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 60
    while not await what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def listed(place: Place, run_id: UUID, **query: Any) -> list[Any]:
    return [row async for row in place.client.pages(f"/api/runs/{run_id}/rejected", limit=4, **query)]


async def refused(awaitable: Awaitable[object]) -> tuple[int, str]:
    with pytest.raises(ApiError) as raised:
        await awaitable
    return raised.value.status, raised.value.code


async def warnings(place: Place, run_id: UUID) -> list[str]:
    async with place.ports.database.platform() as tx:
        data = await tx.fetchval(
            "SELECT data FROM executor.outbox WHERE subject = $1 AND type = 'run.succeeded.v1'", str(run_id)
        )
    return list(data["warnings"])


async def check(place: Place) -> dict[str, Any]:
    ready = await place.client.get("/health/ready")
    assert ready["status"] == "ready", "runs that reject nothing go on"
    (found,) = (one for one in ready["checks"] if one["name"] == "run-store")
    return dict(found)


def folder_of(rig: Rig, home: str, run_id: UUID) -> Path:
    return RunFolders(rig.settings.home / home).path(run_id)


async def test_rejected_rows_outlive_the_machine_that_rejected_them(rig: Rig) -> None:
    async with open_place(rig.at("first"), working=True) as first:
        run = await ran(first, rig)
        assert await warnings(first, run.run_id) == []
        known = first.connectors
    await asyncio.to_thread(shutil.rmtree, rig.settings.home / "first")
    async with open_place(rig.at("second"), working=True, connectors=known) as second:
        rows = await listed(second, run.run_id)
        assert [row["row"] for row in rows if row["rule"] == "cheap"] == [
            {"id": n, "price": f"{Decimal(n) / 4:.2f}"} for n in range(41, 51)
        ]
        assert [row["row"]["id"] for row in await listed(second, run.run_id, rule="odd")] == [20]
        summary = await second.client.get(f"/api/runs/{run.run_id}/rejected/summary")
        assert {item["rule"]: item["rows"] for item in summary["items"]} == {"cheap": 10, "odd": 1}
        into = io.BytesIO()
        await second.client.download(f"/api/runs/{run.run_id}/rejected/download", into, format="parquet", rule="cheap")
        held = pq.read_table(into)
        assert held["row"].type.field("price").type == pa.decimal128(10, 2)
        assert held["row"].to_pylist() == [{"id": n, "price": Decimal(n) / 4} for n in range(41, 51)]
        again = await ran(
            second,
            rig,
            definition=definition(second, rig, RULES[1])
            | {"destinations": run.definition.model_dump()["destinations"]},
            pipeline_id=run.pipeline_id,
            trigger="replay",
            parent_run_id=run.run_id,
            replay={"rule": "cheap"},
        )
        assert await rig.rows("SELECT count(*), sum(price) FROM kept WHERE id > 40") == [(10, Decimal("113.75"))]
        assert await second.error(again.run_id) is None


async def lost_with_its_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, dict[str, Any]]]:
    """A run whose destination has committed, while its executor died before it could tell and took its disk along."""
    reached = asyncio.Event()

    async def dies(*_: object) -> Any:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as first_only:
        first_only.setattr(storing.Storing, "at_end", dies)
        first_only.setattr(worker, "DRAIN_SECONDS", 0.1)
        async with open_place(rig.at("first").model_copy(update=SOON), working=True) as first:
            run = await first.queue(definition=definition(first, rig))
            await asyncio.wait_for(reached.wait(), 60)
    await asyncio.to_thread(shutil.rmtree, rig.settings.home / "first")
    assert await rig.rows("SELECT count(*) FROM kept") == [(39,)]
    return run, first.connectors


async def test_an_executor_that_dies_between_commit_and_end_takes_no_rejected_row_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, known = await lost_with_its_disk(rig, monkeypatch)
    async with open_place(rig.at("second").model_copy(update=SOON), working=True, connectors=known) as second:
        ended = await second.ended(run.run_id)
        assert (ended.status, ended.lost) == (Status.SUCCEEDED, 1), await second.error_detail(run.run_id)
        assert await warnings(second, run.run_id) == []
        assert len(await listed(second, run.run_id)) == 11
        ledger = await second.client.get(f"/api/runs/{run.run_id}/ledger")
        assert [(one["stage"], one["read"], one["written"]) for one in ledger["stages"]] == [
            ("prices", 50, 50),
            ("clean[0].validate", 50, 39),
            ("postgres/public.kept", 39, 39),
        ]
        assert await rig.rows("SELECT count(*), count(DISTINCT id) FROM kept") == [(39, 39)]


async def test_once_they_are_stored_an_ended_run_leaves_nothing_on_the_disk(rig: Rig) -> None:
    async with open_place(rig.at("first"), working=True) as first:
        run = await ran(first, rig)

        async def swept() -> bool:
            return not folder_of(rig, "first", run.run_id).exists()

        await until(swept)
        assert len(await listed(first, run.run_id)) == 11


async def test_a_store_that_is_away_at_the_end_of_a_run_gets_the_rows_when_it_is_back(rig: Rig) -> None:
    """The run ends as it is and says so; the executor may end as well meanwhile."""
    await rig.away()
    async with open_place(rig.at("first"), working=True) as first:
        run = await ran(first, rig)
        (told,) = await warnings(first, run.run_id)
        assert "on their executor's disk only" in told
        assert len(await listed(first, run.run_id)) == 11
        found = await check(first)
        assert (found["ok"], found["code"]) == (False, "run-store-unavailable")
    await rig.proxy.open()
    async with open_place(rig.at("second"), working=True) as second:
        assert await refused(listed(second, run.run_id)) == (503, "rejected-rows-elsewhere")
        async with open_place(rig.at("first"), working=True):

            async def stored() -> bool:
                return not folder_of(rig, "first", run.run_id).exists()

            await until(stored)
        assert len(await listed(second, run.run_id)) == 11
        assert (await check(second))["ok"]


async def test_while_the_store_is_away_only_the_first_end_waits_for_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes every connection and answers none; and an executor notices by itself when it is back."""
    monkeypatch.setattr(storing, "WAIT_SECONDS", 4.0)
    monkeypatch.setattr(storing, "LOOK_SECONDS", 0.5)
    rig.proxy.black_hole()
    async with open_place(rig.at("first"), working=True) as first:
        waited = []
        for _ in range(3):
            began = time.monotonic()
            run = await ran(first, rig)
            waited.append(time.monotonic() - began)
        assert min(waited[1:]) < 4.0 <= waited[0] < 20.0, waited
        assert (await check(first))["code"] == "run-store-unavailable"
        rig.proxy.heal()

        async def stored() -> bool:
            return not folder_of(rig, "first", run.run_id).exists()

        await until(stored)
        await ran(first, rig)
        assert (await check(first))["ok"]


async def test_a_store_that_is_away_when_rows_are_asked_for_says_so(rig: Rig) -> None:
    async with open_place(rig.at("first"), working=True) as first:
        run = await ran(first, rig)
        await rig.away()
        path = f"/api/runs/{run.run_id}/rejected"
        for what in (path, f"{path}/download", f"{path}/download?format=parquet"):
            assert await refused(first.client.get(what)) == (503, "run-store-unavailable"), what
        assert (await first.client.get(f"{path}/summary"))["rows"] == 11, "the index is in the database"
        await rig.proxy.open()
        assert len(await listed(first, run.run_id)) == 11
    without = rig.at("second").model_copy(update={"run_store": None})
    async with open_place(without, working=False) as second:
        assert await refused(listed(second, run.run_id)) == (503, "run-store-unavailable")


async def test_rows_that_somebody_took_from_the_store_are_gone(rig: Rig) -> None:
    async with open_place(rig.at("first"), working=True) as first:
        run = await ran(first, rig)
        await rig.store.remove(str(run.run_id))
        assert await refused(listed(first, run.run_id)) == (404, "rejected-rows-gone")


async def test_a_store_set_up_later_gets_the_rows_of_earlier_runs(rig: Rig) -> None:
    alone = rig.at("first").model_copy(update={"run_store": None})
    async with open_place(alone, working=True) as first:
        run = await ran(first, rig)
        assert len(await listed(first, run.run_id)) == 11
    async with open_place(rig.at("first"), working=True):

        async def stored() -> bool:
            return not folder_of(rig, "first", run.run_id).exists()

        await until(stored)
    async with open_place(rig.at("second"), working=False) as second:
        assert len(await listed(second, run.run_id)) == 11


async def test_a_file_that_cannot_be_read_stops_neither_the_executor_nor_the_rows_of_other_runs(rig: Rig) -> None:
    alone = rig.at("first").model_copy(update={"run_store": None})
    async with open_place(alone, working=True) as first:
        broken, whole = [await ran(first, rig) for _ in range(2)]
    file = next(folder_of(rig, "first", broken.run_id).rglob("*.parquet"))
    file.rename(file.with_name("aside"))
    file.symlink_to("/proc/self/mem")
    async with open_place(rig.at("first"), working=True) as first:

        async def stored() -> bool:
            return not folder_of(rig, "first", whole.run_id).exists()

        await until(stored)
        file.unlink()
        file.with_name("aside").rename(file)
        assert (await ran(first, rig)) is not None
        assert len(await listed(first, broken.run_id)) == 11
