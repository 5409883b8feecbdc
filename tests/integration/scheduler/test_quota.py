"""How much a workspace may have stored of definitions: judged where it is stored, for all who store at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import services.scheduler
from dataaggregator.db import migrate
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from tests.integration.control import OTHER_WORKSPACE, WORKSPACE, Control, Reply, a_pipeline, control_platform
from tests.sql import execute

MOST = 100_000
LARGE = "x" * 30_000


@pytest.fixture
async def narrow(settings: Settings, database_url: str) -> AsyncIterator[Control]:
    """A platform where a workspace may have little stored."""
    async with AsyncExitStack() as held:
        bounded = settings.model_copy(update={"workspace_definitions_bytes": MOST})
        platform = await control_platform(bounded, database_url, held)
        await platform.connector("warehouse")
        yield platform


def large(name: str, text: str = LARGE) -> dict[str, Any]:
    return a_pipeline(name, parameters={"region": {"type": "string", "default": text}})


def transformation(name: str, text: str = LARGE) -> dict[str, Any]:
    return {"name": name, "steps": [{"filter": f"name <> '{text}'"}]}


def connector(name: str, text: str = LARGE) -> dict[str, Any]:
    return {"name": name, "type": "postgres", "config": {"host": "db.example.org", "user": text, "password": "p"}}


async def stored(control: Control) -> tuple[int, int]:
    """What the workspace has of versions, and of connectors with their secrets, counted anew."""
    async with control.ports.database.platform() as tx:
        versions = await tx.fetchval(
            """SELECT sum(octet_length(definition::text)) FROM (
                   SELECT workspace_id, definition FROM scheduler.pipeline_versions
                   UNION ALL SELECT workspace_id, definition FROM scheduler.transformation_versions) v
               WHERE workspace_id = $1""",
            WORKSPACE,
        )
        connectors = await tx.fetchval(
            """SELECT (SELECT sum(octet_length(config::text)) FROM connectors.connectors WHERE workspace_id = $1)
                   + (SELECT coalesce(sum(octet_length(sealed)), 0) FROM connectors.secrets WHERE workspace_id = $1)""",
            WORKSPACE,
        )
    return versions or 0, connectors or 0


def full(reply: Reply) -> bool:
    """Whether it says that there is no room; anything but that must be good."""
    if reply.status == 409:
        assert reply.json["code"] == "workspace-full"
        assert "100,000" in reply.json["detail"]
        assert "WORKSPACE_DEFINITIONS_BYTES" in reply.json["detail"]
        return True
    assert reply.status < 300, reply.json
    return False


async def test_pipelines_and_transformations_share_a_quota_that_every_version_counts_to(narrow: Control) -> None:
    assert not full(await narrow.call("POST", "/api/pipelines", large("one")))
    assert not full(await narrow.call("POST", "/api/transformations", transformation("clean")))
    assert not full(await narrow.call("PUT", "/api/pipelines/one", large("one", LARGE[1:])))
    before = await stored(narrow)
    assert full(await narrow.call("POST", "/api/pipelines", large("two")))
    assert full(await narrow.call("PUT", "/api/pipelines/one", large("one")))
    assert full(await narrow.call("POST", "/api/transformations", transformation("other")))
    assert full(await narrow.call("PUT", "/api/transformations/clean", transformation("clean", LARGE[1:])))
    assert await stored(narrow) == before
    assert not full(await narrow.call("PUT", "/api/pipelines/one", large("one", LARGE[1:])))
    assert not full(await narrow.call("POST", "/api/pipelines", a_pipeline("small")))
    assert not full(await narrow.call("DELETE", "/api/pipelines/one"))
    assert not full(await narrow.call("POST", "/api/pipelines", large("two")))


async def test_connectors_have_a_quota_with_their_secrets_and_may_always_become_smaller(narrow: Control) -> None:
    secret = connector("b") | {"config": {"host": "db.example.org", "password": LARGE}}
    assert not full(await narrow.call("POST", "/api/connectors", connector("a")))
    assert not full(await narrow.call("POST", "/api/connectors", secret))
    assert not full(await narrow.call("POST", "/api/connectors", connector("c")))
    before = await stored(narrow)
    assert full(await narrow.call("POST", "/api/connectors", connector("d")))
    assert full(await narrow.call("PATCH", "/api/connectors/b", {"config": {"password": LARGE * 2}}))
    assert await stored(narrow) == before
    async with narrow.ports.database.transaction(WORKSPACE) as tx:
        await tx.execute(
            "UPDATE connectors.connectors SET config = json_build_object('host', repeat('x', 200000)) WHERE name = 'c'"
        )
    assert full(await narrow.call("PATCH", "/api/connectors/a", {"config": {"user": LARGE + "x"}}))
    assert not full(await narrow.call("PATCH", "/api/connectors/a", {"config": {"user": LARGE[1:]}}))
    assert not full(await narrow.call("PATCH", "/api/connectors/c", {"config": {"host": "db.example.org"}}))


async def test_an_apply_that_has_no_room_changes_nothing_and_its_dry_run_says_so(narrow: Control) -> None:
    before = await stored(narrow)
    pipelines = [large(f"copy-{n}") for n in range(4)]
    connectors = [connector(f"erp-{n}") for n in range(4)]
    for definitions in (pipelines, connectors, [connectors[0], *pipelines]):
        for dry_run in (True, False):
            wish = {"definitions": definitions, "dry_run": dry_run}
            assert full(await narrow.call("POST", "/api/apply", wish))
    assert await stored(narrow) == before
    good = {"definitions": [connectors[0], *pipelines[:3]], "dry_run": False}
    assert not full(await narrow.call("POST", "/api/apply", good))
    assert not full(await narrow.call("POST", "/api/apply", good))


async def test_who_store_at_once_do_not_slip_through_together(narrow: Control) -> None:
    """Nine of each kind, where three fit; and nobody waits for anybody for ever."""
    calls = [narrow.call("POST", "/api/pipelines", large(f"p-{n}")) for n in range(5)]
    calls += [narrow.call("POST", "/api/transformations", transformation(f"t-{n}")) for n in range(4)]
    calls += [narrow.call("POST", "/api/connectors", connector(f"c-{n}")) for n in range(9)]
    told = await asyncio.gather(*calls)
    made = [not full(one) for one in told]
    assert (sum(made[:9]), sum(made[9:])) == (3, 3)
    versions, connectors = await stored(narrow)
    assert versions <= MOST
    assert connectors <= MOST


async def test_each_workspace_has_a_quota_of_its_own(narrow: Control) -> None:
    for n in range(3):
        assert not full(await narrow.call("POST", "/api/transformations", transformation(f"t-{n}")))
    assert full(await narrow.call("POST", "/api/transformations", transformation("t-3")))
    other = await narrow.call("POST", "/api/transformations", transformation("t-3"), workspace=OTHER_WORKSPACE)
    assert not full(other)


async def test_what_was_stored_before_there_was_a_quota_counts(settings: Settings, database_url: str) -> None:
    """Its size is found by the migration; what stores without knowing of it is counted as well."""
    folder = Path(services.scheduler.__file__).parent / "migrations"
    await migrate.downgrade(database_url, "scheduler", folder, "0019")
    pipeline, made = new_id(), f"'{WORKSPACE}', '{{\"text\": \"{'é' * 40_000}\"}}', now()"
    version = "INSERT INTO scheduler.pipeline_versions (pipeline_id, version, workspace_id, definition, created_at)"
    await execute(
        database_url,
        "ALTER TABLE scheduler.pipelines NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE scheduler.pipeline_versions NO FORCE ROW LEVEL SECURITY",
        f"""INSERT INTO scheduler.pipelines
                (id, name, version, status, active_since, updated_at, workspace_id, definition, created_at)
            VALUES ('{pipeline}', 'old', 2, 'active', now(), now(), {made})""",
        f"{version} VALUES ('{pipeline}', 1, {made})",
        "ALTER TABLE scheduler.pipelines FORCE ROW LEVEL SECURITY",
    )
    assert await migrate.upgrade(database_url, "scheduler", folder)
    async with AsyncExitStack() as held:
        bounded = settings.model_copy(update={"workspace_definitions_bytes": MOST})
        platform = await control_platform(bounded, database_url, held)
        assert not full(await platform.call("POST", "/api/transformations", transformation("a", "x" * 10_000)))
        assert full(await platform.call("POST", "/api/transformations", transformation("b", "x" * 10_000)))
        await execute(database_url, f"{version} VALUES ('{pipeline}', 2, {made})")
        assert full(await platform.call("POST", "/api/transformations", transformation("c", "x")))
        assert (await stored(platform))[0] > 160_000


async def test_without_a_quota_nothing_is_refused(settings: Settings, database_url: str) -> None:
    async with AsyncExitStack() as held:
        unbounded = settings.model_copy(update={"workspace_definitions_bytes": 0})
        platform = await control_platform(unbounded, database_url, held)
        for n in range(5):
            await platform.good("POST", "/api/transformations", transformation(f"t-{n}"))
