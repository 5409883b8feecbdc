"""Definitions applied together over two services: all or none, twice the same as once, and what breaks off is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from dataaggregator.contracts.apply import AskedConnector, Change
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from dataaggregator.permissions import Role
from dataaggregator.settings import Settings
from services.scheduler.applying.owner import ConnectorsOwner
from services.scheduler.pipelines import commands, connectors
from tests.integration.control import Control, Reply, a_pipeline, control_platform
from tests.sql import execute

Json = dict[str, Any]
CANARY = "canary-Vq8zT1-secret"
LISTS = ("/api/connectors", "/api/transformations", "/api/pipelines")


def a_connector(name: str = "warehouse", **config: Any) -> Json:
    return {"name": name, "type": "postgres", "config": {"host": "db.example.org", "password": CANARY, **config}}


def definitions() -> list[Json]:
    """Nobody stands before whom it needs."""
    follower = a_pipeline("follower", triggers=[{"after": ["copy"]}])
    return [
        {"kind": "pipeline", **follower},
        {"kind": "pipeline", **a_pipeline(transformations=["clean"])},
        {"kind": "transformation", "name": "clean", "steps": [{"filter": "delay > 0"}]},
        {"kind": "connector", **a_connector()},
    ]


@pytest.fixture(scope="module")
async def platform(
    postgres_server: EmbeddedPostgres, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Control]:
    """One for all tests of this file, each of which has a workspace of its own."""
    name = f"apply_{new_id().hex}"
    await execute(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy")
    url = postgres_server.url.rpartition("/")[0] + f"/{name}"
    given = {"database_url": url, "home": tmp_path_factory.mktemp("apply"), "secret_key": "s" * 40}
    async with AsyncExitStack() as held:
        yield await control_platform(Settings.model_validate({**given, "relay_poll_seconds": 0.2}), url, held)
    await execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def control(platform: Control) -> Control:
    return replace(platform, workspace=new_id())


async def apply(control: Control, wanted: list[Json], **more: Any) -> Reply:
    options = {"role": more.pop("role", Role.ADMIN)}
    reply = await control.call("POST", "/api/apply", {"definitions": wanted, **more}, **options)
    assert CANARY not in str(reply.json)
    return reply


async def applied(control: Control, wanted: list[Json], **more: Any) -> Json:
    reply = await apply(control, wanted, **more)
    assert reply.status == 200, reply.json
    told: Json = reply.json
    return told


def outcomes(told: Json) -> list[str]:
    return [one["outcome"] for one in told["changes"]]


async def everything(control: Control) -> list[Json]:
    return [one for path in LISTS for one in (await control.good("GET", path))["items"]]


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]], *, after: bool = True) -> None:
    """Something happens right after (or before) the connectors are saved, once."""
    real = ConnectorsOwner.apply
    done: list[bool] = []

    async def interfered(
        self: ConnectorsOwner, workspace: Any, author: Any, asked: Sequence[AskedConnector], *, dry_run: bool
    ) -> tuple[Change, ...]:
        if dry_run or done:
            return await real(self, workspace, author, asked, dry_run=dry_run)
        done.append(True)
        if not after:
            await act()
        told = await real(self, workspace, author, asked, dry_run=dry_run)
        if after:
            await act()
        return told

    monkeypatch.setattr(ConnectorsOwner, "apply", interfered)


async def test_definitions_in_any_order_are_saved_together_and_again_change_nothing(control: Control) -> None:
    first = await applied(control, definitions())
    assert [(one["kind"], one["name"], one["outcome"]) for one in first["changes"]] == [
        ("pipeline", "follower", "created"),
        ("pipeline", "copy", "created"),
        ("transformation", "clean", "created"),
        ("connector", "warehouse", "created"),
    ]
    before = await everything(control)
    again = await applied(control, definitions())
    assert outcomes(again) == ["unchanged"] * 4
    assert await everything(control) == before
    assert {one["version"] for one in before} == {1}
    assert [one["id"] for one in again["changes"]] == [one["id"] for one in first["changes"]]


async def test_one_wrong_part_refuses_the_whole_and_all_that_is_wrong_is_named(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PROJECTION_SECONDS", 0.1)
    wrong = [
        *definitions(),
        {"name": "lake", "type": "postgres", "config": {"hots": "x", "password": CANARY}},
        {"name": "bad-sql", "steps": [{"filter": "delay >"}]},
        a_pipeline(
            "lost",
            sources={"a": {"connector": "nobody", "stream": "x", "read": "incremental", "cursor_field": "at"}},
            concurrency=2,
        ),
        a_pipeline("misspelt", timeuot="2h"),
        {"name": "what-is-this"},
        a_connector(),
        a_pipeline("on-bad-sql", transformations=["bad-sql"]),
    ]
    reply = await apply(control, wrong)
    assert (reply.status, reply.json["code"]) == (422, "definitions-invalid")
    assert set(reply.fields) == {
        "definitions[4].config.hots",
        "definitions[5].steps[0].filter",
        "definitions[6].sources.a.connector",
        "definitions[6].concurrency",
        "definitions[7].timeuot",
        "definitions[8].kind",
        "definitions[9].name",
    }
    assert reply.json["detail"].startswith("6 of the definitions are wrong")
    assert await everything(control) == []


async def test_a_dry_run_tells_every_changed_field_and_no_secret_and_changes_nothing(control: Control) -> None:
    created = await applied(control, definitions(), dry_run=True)
    assert (outcomes(created), {one["id"] for one in created["changes"]}) == (["created"] * 4, {None})
    assert await everything(control) == []
    await applied(control, definitions())
    before = await everything(control)
    changed = definitions()
    changed[0]["triggers"] = []
    changed[1]["timeout"] = "2h"
    changed[2]["steps"] = [{"filter": "delay > 5"}, {"drop": ["x"]}]
    changed[3]["config"] = {"host": "db2.example.org", "password": "another", "user": {"$env": "WAREHOUSE_USER"}}
    told = await applied(control, changed, dry_run=True)
    assert "another" not in str(told)
    fields = {one["name"]: {f["field"]: (f["before"], f["after"]) for f in one["fields"]} for one in told["changes"]}
    assert fields == {
        "follower": {"triggers[0]": ({"after": ["copy"]}, None)},
        "copy": {"timeout": (None, "2h")},
        "clean": {"steps[0].filter": ("delay > 0", "delay > 5"), "steps[1]": (None, {"drop": ["x"]})},
        "warehouse": {
            "config.host": ("db.example.org", "db2.example.org"),
            "config.user": (None, {"$env": "WAREHOUSE_USER"}),
            "config.password": ("********", "********"),
        },
    }
    assert await everything(control) == before
    masked = definitions()
    masked[3]["config"]["password"] = "********"
    assert outcomes(await applied(control, masked)) == ["unchanged"] * 4


async def test_what_is_exported_applies_elsewhere_unchanged_and_has_no_secret(control: Control) -> None:
    await applied(control, definitions())
    warehouse = await control.good("PATCH", "/api/connectors/warehouse", {"name": "lake"})
    by_id = a_pipeline("by-id", sources={"flights": {"connector": warehouse["id"], "stream": "public.flights"}})
    by_id["destinations"][0]["connector"] = "lake"
    inbox = await control.good(
        "POST", "/api/connectors", {"name": "inbox", "type": "files", "config": {"root": "s3://inbox/x"}}
    )
    by_id["triggers"] = [{"files": {"connector": inbox["id"], "stream": "*.csv", "every": "1h"}}]
    copy = await control.good("GET", "/api/pipelines/copy")
    await applied(
        control,
        [
            by_id,
            a_pipeline("late", triggers=[{"after": [copy["id"]]}])
            | {"destinations": by_id["destinations"], "sources": by_id["sources"]},
        ],
    )
    exported = await control.good("GET", "/api/export")
    assert CANARY not in str(exported)
    assert [(one["name"], one["connector"], one["field"]) for one in exported["variables"]] == [
        ("CONNECTOR_LAKE_PASSWORD", "lake", "password")
    ]
    assert warehouse["id"] not in str(exported)
    assert inbox["id"] not in str(exported)
    assert copy["id"] not in str(exported)
    assert outcomes(await applied(control, exported["definitions"], dry_run=True))[2:] == ["unchanged"] * 5
    elsewhere = replace(control, workspace=new_id())
    there = await applied(elsewhere, exported["definitions"])
    assert outcomes(there) == ["created"] * 7
    again = await applied(elsewhere, exported["definitions"], dry_run=True)
    assert outcomes(again) == ["unchanged"] * 7
    assert await elsewhere.good("GET", "/api/export") == {"definitions": exported["definitions"], "variables": []}


async def test_connectors_need_not_have_been_heard_of(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody_hears(*_: object) -> None:
        """As if the broker were down."""

    monkeypatch.setattr(connectors, "save", nobody_hears)
    assert outcomes(await applied(control, definitions())) == ["created"] * 4
    assert outcomes(await applied(control, definitions())) == ["unchanged"] * 4
    await control.good("POST", "/api/pipelines", a_pipeline("third"))


async def test_what_breaks_off_between_the_services_is_told_and_completed_by_the_next(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silence() -> None:
        raise Transient("service-unavailable", "The service connectors did not answer within 30 seconds.")

    with monkeypatch.context() as patched:
        between(patched, silence)
        reply = await apply(control, definitions())
    assert reply.status == 503
    assert [one["name"] for one in await everything(control)] == ["warehouse"]
    seen = await applied(control, definitions(), dry_run=True)
    assert seen["broke_off_at"] is not None
    completing = await applied(control, definitions())
    assert (outcomes(completing), completing["broke_off_at"]) == (["created"] * 3 + ["unchanged"], seen["broke_off_at"])
    assert (await applied(control, definitions()))["broke_off_at"] is None


async def test_what_an_apply_expected_when_it_broke_off_is_not_left_behind(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died before the connectors were saved: the next one gives them other ids."""

    async def silence() -> None:
        raise Transient("service-unavailable", "The service connectors did not answer within 30 seconds.")

    with monkeypatch.context() as patched:
        between(patched, silence, after=False)
        assert (await apply(control, definitions())).status == 503
    assert await everything(control) == []
    assert await known(control) == [("warehouse", True)]
    assert outcomes(await applied(control, definitions())) == ["created"] * 4
    assert await known(control) == [("warehouse", False)]


async def test_one_that_is_refused_its_turn_leaves_alone_what_another_expects(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def another_comes() -> None:
        assert (await apply(control, definitions())).status == 409
        seen.append(await known(control))

    with monkeypatch.context() as patched:
        between(patched, another_comes, after=False)
        await applied(control, definitions())
    assert seen == [[("warehouse", True)]]


async def known(control: Control) -> list[tuple[str, bool]]:
    """The connectors that the scheduler knows, and whether they are leaving."""
    async with control.ports.database.transaction(control.workspace) as tx:
        rows = await tx.fetch("SELECT name, leaving IS NOT NULL AS leaving FROM scheduler.connectors")
    return [(row["name"], row["leaving"]) for row in rows]


async def test_an_apply_that_somebody_spoils_between_the_services_says_what_is_saved(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    await control.good("POST", "/api/transformations", {"name": "elsewhere", "steps": [{"filter": "x > 1"}]})
    wanted = [a_connector(), a_pipeline(transformations=["elsewhere"])]
    with monkeypatch.context() as patched:
        between(patched, lambda: control.good("DELETE", "/api/transformations/elsewhere"))
        reply = await apply(control, wanted)
    assert (reply.status, reply.json["code"]) == (409, "apply-half-done")
    assert "connectors warehouse are saved" in reply.json["detail"]
    assert set(reply.fields) == {"definitions[1].transformations[0]"}
    await control.good("POST", "/api/transformations", {"name": "elsewhere", "steps": [{"filter": "x > 1"}]})
    assert outcomes(await applied(control, wanted)) == ["unchanged", "created"]


async def test_a_connector_that_is_changed_meanwhile_is_left_alone_and_nothing_is_applied(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    await applied(control, [a_connector()])
    wanted = [a_connector(host="mine.example.org"), a_connector("second"), a_pipeline()]
    with monkeypatch.context() as patched:
        theirs = {"config": {"host": "theirs.example.org"}}
        between(patched, lambda: control.good("PATCH", "/api/connectors/warehouse", theirs), after=False)
        reply = await apply(control, wanted)
    assert (reply.status, reply.json["code"]) == (409, "apply-overtaken")
    (there,) = await everything(control)
    assert there["config"]["host"] == "theirs.example.org"
    after = await applied(control, wanted)
    assert (outcomes(after), after["broke_off_at"]) == (["updated", "created", "created"], None)


async def test_a_connector_that_is_deleted_meanwhile_does_not_come_back(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        between(patched, lambda: control.good("DELETE", "/api/connectors/warehouse"))
        reply = await apply(control, [a_connector(), a_pipeline()])
    assert (reply.status, reply.json["code"]) == (409, "apply-half-done")
    monkeypatch.setattr(commands, "PROJECTION_SECONDS", 0.1)
    refused = await control.call("POST", "/api/pipelines", a_pipeline())
    assert "sources.flights.connector" in refused.fields
    assert outcomes(await applied(control, [a_connector(), a_pipeline()])) == ["created", "created"]


async def test_of_applies_at_once_each_is_whole(control: Control) -> None:
    def set_of(number: int) -> list[Json]:
        host, name = f"db{number}.example.org", f"t{number}"
        steps = [{"name": name, "steps": [{"filter": f"delay > {number}"}]}]
        return [a_connector(host=host), a_pipeline(transformations=steps)]

    for _ in range(3):
        replies = await asyncio.gather(*(apply(control, set_of(number)) for number in range(6)))
        assert {reply.status for reply in replies} <= {200, 409}
        assert {reply.json["code"] for reply in replies if reply.status == 409} <= {"apply-under-way"}
        connector = await control.good("GET", "/api/connectors/warehouse")
        pipeline = await control.good("GET", "/api/pipelines/copy")
        assert f"db{pipeline['transformations'][0]['name'][1:]}.example.org" == connector["config"]["host"]


async def test_pipelines_may_not_wait_for_each_other_but_may_change_places(control: Control) -> None:
    first, second = a_pipeline("first"), a_pipeline("second", triggers=[{"after": ["first"]}])
    circle = [a_connector(), first | {"triggers": [{"after": ["second"]}]}, second]
    reply = await apply(control, circle)
    assert set(reply.fields) == {"definitions[1].triggers[0].after", "definitions[2].triggers[0].after"}
    await applied(control, [a_connector(), first, second])
    turned = [second | {"triggers": []}, first | {"triggers": [{"after": ["second"]}]}]
    assert outcomes(await applied(control, turned)) == ["updated", "updated"]


async def test_a_transformation_that_breaks_a_pipeline_not_sent_is_refused(control: Control) -> None:
    await applied(control, definitions())
    taking = {"name": "clean", "inputs": ["flights", "other"], "steps": [{"sql": "select * from flights, other"}]}
    reply = await apply(control, [taking])
    assert reply.status == 422, reply.json
    assert all(field.startswith("definitions[0]") for field in reply.fields)
    assert "copy" in str(reply.json["errors"])


async def test_who_may_only_look_exports_and_does_not_apply(control: Control) -> None:
    assert (await apply(control, definitions(), role=Role.OPERATOR)).status == 403
    assert (await control.good("GET", "/api/export", role=Role.VIEWER))["definitions"] == []


async def test_every_change_is_audited_under_who_applied(control: Control) -> None:
    await applied(control, definitions())
    async with control.ports.database.platform() as tx:
        rows = await tx.fetch(
            """SELECT data FROM scheduler.outbox WHERE workspace_id = $1 AND type LIKE 'audit%'
            UNION ALL SELECT data FROM connectors.outbox WHERE workspace_id = $1 AND type LIKE 'audit%'""",
            control.workspace,
        )
    told = {(row["data"]["action"], row["data"]["actor"]) for row in rows}
    actions = ("connector.created", "transformation.created", "pipeline.created")
    assert told == {(action, "ada@example.org") for action in actions}
