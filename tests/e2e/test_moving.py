"""An embedded installation moves to a full one: killed at work, exported, imported, and everything goes on there."""

import asyncio
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import pytest

from dataaggregator.embedded.postgres import EmbeddedPostgres
from services.auth.audit import store as audit
from services.auth.audit.domain import first_broken
from tests.e2e.api import PASSWORD, Api, Json, until
from tests.e2e.conftest import LIMITS, servers
from tests.e2e.full import FullPlatform
from tests.e2e.platform import Platform
from tests.e2e.test_docs import ROOT, blocks
from tests.e2e.world import Warehouse
from tests.sql import execute

pytestmark = pytest.mark.timeout(400)

GROUPS = ("auth connectors scheduler gateway", "executor")
RECIPE = "docs/recipes/move-to-a-full-installation.md"
LISTS = ("/api/users", "/api/connectors", "/api/pipelines", "/api/webhooks", "/api/workspaces")
NAMED = {"rule": "named", "check": {"not_null": "name"}}
SOURCE = {"connector": "db", "read": "incremental", "cursor_field": "at", "stream": "public.orders"}


class Moving(FullPlatform):
    """A full platform with the SECRET_KEY of the home that moves to it."""

    def take_key(self, key: str) -> None:
        self._secret_key = key


@dataclass(frozen=True)
class World:
    old: Platform
    new: Moving
    warehouse: Warehouse
    folder: Path


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("moving")
    name = f"warehouse_{secrets.token_hex(4)}"
    asyncio.run(execute(postgres_server.url, f"CREATE DATABASE {name}"))
    warehouse = Warehouse(postgres_server.url.rpartition("/")[0] + f"/{name}")
    with servers(request, folder) as found:
        new = Moving(folder / "new", found, LIMITS, groups=GROUPS)
        new.home.make()
        old = Platform(folder / "old", LIMITS)
        old.home.make()
        try:
            yield World(old, new, warehouse, folder)
        finally:
            if new.processes:
                assert new.stop() == 0, new.printed()


async def reached(platform: Platform, http: aiohttp.ClientSession) -> Api:
    async with http.get(f"{platform.url}/api/openapi.json") as answer:
        return Api(http, platform.url, await answer.json())


async def made(api: Api, warehouse: Warehouse) -> None:
    """Rows with a row that no step takes, pipelines for them, one of which keeps copies, and one that fires."""
    await warehouse.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, name text, at timestamptz NOT NULL);"
        "INSERT INTO orders SELECT i, nullif('n' || i, 'n3'), timestamptz '2026-01-01' + i * interval '1 s'"
        " FROM generate_series(1, 10) i"
    )
    await api.post("/api/connectors", {"name": "db", "type": "postgres", "config": {"url": warehouse.url}})
    clean = {"name": "clean", "steps": [{"validate": [NAMED]}]}
    count = {"name": "count", "steps": [{"aggregate": {"measures": {"n": "count(*)"}}}]}
    for name, source, step, write in (
        ("orders", {}, clean, "append"),
        ("totals", {"keep": "full", "primary_key": ["id"]}, count, "replace"),
    ):
        to = {"connector": "db", "stream": f"public.{name}_there", "write": write}
        one = {"name": name, "sources": {"rows": {**SOURCE, **source}}, "transformations": [step], "destinations": [to]}
        await api.post("/api/pipelines", {**one, "triggers": [{"webhook": True}]})
        run = await api.run(name)
        assert (run["status"], run["rows_read"]) == ("succeeded", 10), run["error"]
    query = {"connector": "db", "query": "SELECT now() AS at"}
    to = {"connector": "db", "stream": "public.ticks", "write": "append"}
    ticking = {"name": "ticking", "sources": {"now": query}, "destinations": [to], "triggers": [{"every": "1s"}]}
    await api.post("/api/pipelines", ticking)
    await api.post("/api/webhooks", {"name": "nobody", "url": "http://127.0.0.1:9/", "types": ["pipeline.blocked.v1"]})


async def history(api: Api) -> dict[str, Any]:
    """What stands still: definitions, ended runs, slots; without what time alone changes."""
    found: dict[str, Any] = {path: await api.items(path) for path in LISTS}
    for one in (*found["/api/pipelines"], *found["/api/users"]):
        for name in ("last_run", "next_run_at", "last_login_at", "late_since", "expected_by"):
            one.pop(name, None)
    return found


def by_id(items: list[Json], key: str = "id") -> dict[str, Json]:
    return {one[key]: one for one in items}


async def check_audit(url: str, workspace: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            links = [one.link for one in await audit.chain(connection, UUID(workspace))]
        assert first_broken(links) is None
        return len(links)
    finally:
        await connection.close()


async def fired(api: Api, more_than: int) -> list[Json]:
    """All decided slots, once more than so many have been fired."""

    async def look() -> list[Json] | None:
        found = [slot for slot in await api.items("/api/pipelines/ticking/slots") if slot["outcome"]]
        return found if sum(slot["outcome"] == "fired" for slot in found) > more_than else None

    return await until(look, f"more than {more_than} slots are fired")


async def goes_on(api: Api, before: list[Json]) -> None:
    """Slots are those there were and later ones, each once; those that were fired have their runs."""
    after = await fired(api, len(before) + 1)
    moments = [slot["slot_at"] for slot in after]
    assert len(moments) == len(set(moments))
    assert [by_id(after, "slot_at")[slot["slot_at"]]["run_id"] for slot in before] == [one["run_id"] for one in before]
    assert max(moments) > max(slot["slot_at"] for slot in before)


async def test_everything_goes_on_in_the_full_installation(world: World, http: aiohttp.ClientSession) -> None:
    old, new, warehouse = world.old, world.new, world.warehouse
    await asyncio.to_thread(old.start)
    api = await reached(old, http)
    credentials = old.home.credentials()
    assert credentials is not None
    admin = await api.logged_in(*credentials)
    await made(admin, warehouse)
    user = await admin.new_user("editor")
    hook = await admin.post("/api/pipelines/totals/hook/rotate", expect=200)
    rejected = await rejections(admin)
    refused = await asyncio.to_thread(old.command, "export", "--installation", str(world.folder / "early"))
    assert (refused.returncode, "already" in refused.stderr) == (2, True), refused.stderr

    await admin.settled()
    before = await history(admin)
    runs = by_id([run for run in await admin.items("/api/runs") if run["finished_at"]])
    slots = await fired(admin, 1)
    await warehouse.execute("INSERT INTO orders SELECT i, 'n' || i, now() FROM generate_series(11, 500) i")
    underway = await admin.post("/api/pipelines/orders/runs", expect=202)
    await asyncio.to_thread(old.kill)

    moved_by_recipe(world)
    await asyncio.to_thread(new.start)
    api = await reached(new, http)
    await api.logged_in(user["email"], PASSWORD)
    session = replace(api, token=admin.token)
    admin = await api.logged_in(*credentials)
    assert await history(admin) == before
    after = by_id(await session.items("/api/runs"))
    assert {run: after[run] for run in runs} == runs
    assert await rejections(admin) == rejected
    workspace = (await admin.get("/api/auth/me"))["memberships"][0]["workspace_id"]
    assert await check_audit(new.database_url, workspace) > 3
    assert (await admin.post("/api/connectors/db/test", expect=200))["ok"], "the sealed secret opens"

    assert (await session.ended(underway["id"]))["status"] == "succeeded"
    await warehouse.execute("INSERT INTO orders SELECT i, 'n' || i, now() FROM generate_series(501, 600) i")
    run = await admin.run("orders")
    assert (run["status"], run["rows_read"] <= 101) == ("succeeded", True), run
    there = await warehouse.rows("SELECT id FROM orders_there ORDER BY id")
    assert there == [(number,) for number in range(1, 601) if number != 3], "none lost, none doubled"
    totals = await admin.ended((await api.post(hook["path"], expect=202))["id"])
    assert (totals["status"], totals["warnings"]) == ("succeeded", []), "what was kept has come along"
    assert await warehouse.rows("SELECT n FROM totals_there") == [(600,)]
    await goes_on(admin, slots)
    asked = await admin.post(f"/api/runs/{next(iter(rejected))}/rejected/replay", {"rule": "named"}, expect=202)
    assert (await admin.ended(asked["id"]))["rows_read"] == 1


async def rejections(api: Api) -> dict[str, list[Json]]:
    """The quarantine of each run that has one."""
    found = [run["id"] for run in await api.items("/api/runs") if run["rows_rejected"]]
    return {run: await api.items(f"/api/runs/{run}/rejected") for run in found}


def moved_by_recipe(world: World) -> None:
    """The commands of the recipe, word for word, each where it says."""
    lines = [line for page, text in blocks("sh") if page == RECIPE for line in text.splitlines()]
    assert [shlex.split(line)[1] for line in lines] == ["export", "db", "import"], (ROOT / RECIPE).read_text()
    world.new.take_key(world.old.home.secret_key())
    for line in lines:
        platform = world.old if "--installation" in line else world.new
        words = [str(world.folder / word) if word.endswith(".archive") else word for word in shlex.split(line)[1:]]
        done = platform.command(*words, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_has_moved_does_not_start_again_unless_somebody_says_so(world: World) -> None:
    again = world.old.command("up")
    assert (again.returncode, "goes on where it was imported" in again.stderr) == (2, True), again.stderr
    world.old.home.moved.unlink()
    with world.old.running():
        assert world.old.home.gateway_url() is not None


def test_what_runs_or_is_there_already_is_not_imported_into(world: World) -> None:
    archive = str(world.folder / "installation.archive")
    running = world.new.command("import", archive)
    assert (running.returncode, "stop all services" in running.stderr) == (2, True), running.stderr
    assert world.new.stop() == 0
    full = world.new.command("import", archive)
    assert (full.returncode, "rows in" in full.stderr) == (2, True), full.stderr
    world.new.take_key(secrets.token_urlsafe(48))
    other = world.new.command("import", archive)
    assert (other.returncode, "another SECRET_KEY" in other.stderr) == (2, True), other.stderr
    exported = world.new.command("export", "--installation", str(world.folder / "full.archive"))
    assert (exported.returncode, "RABBITMQ_URL" in exported.stderr) == (2, True), exported.stderr
