"""An export: whole where that is little enough, else in parts that together are the whole."""

import tracemalloc
from typing import Any
from urllib.parse import urlencode

import pytest

from dataaggregator.db import pages
from dataaggregator.permissions import Role
from services.connectors import applying
from tests.integration.control import Control, a_pipeline

Json = dict[str, Any]


async def exported(control: Control, *asked: tuple[str, str]) -> Json:
    told: Json = await control.good("GET", f"/api/export?{urlencode(asked)}", role=Role.VIEWER)
    return told


def named(told: Json) -> list[tuple[str, str]]:
    return [(one["kind"], one["name"]) for one in told["definitions"]]


@pytest.fixture
async def filled(control: Control) -> Control:
    """Two of each kind; the secrets of the connectors would have one variable."""
    for name in ("a-b", "a.b"):
        await control.connector(name)
    for n in range(2):
        await control.good("POST", "/api/transformations", {"name": f"clean-{n}", "steps": [{"filter": "delay > 0"}]})
        one = a_pipeline(f"copy-{n}", transformations=[f"clean-{n}"])
        one["sources"]["flights"]["connector"] = one["destinations"][0]["connector"] = "a-b"
        await control.good("POST", "/api/pipelines", one)
    return control


async def test_a_part_has_what_the_whole_has_of_these_kinds_and_names(filled: Control) -> None:
    whole = await exported(filled)
    assert len(whole["definitions"]) == 6
    of_pipelines = await exported(filled, ("kind", "pipeline"))
    assert of_pipelines == {"definitions": whole["definitions"][4:], "variables": []}
    two = await exported(
        filled, ("kind", "pipeline"), ("kind", "transformation"), ("name", "copy-1"), ("name", "clean-0")
    )
    assert named(two) == [("transformation", "clean-0"), ("pipeline", "copy-1")]
    assert named(await exported(filled, ("name", "a.b"), ("name", "nobody"))) == [("connector", "a.b")]


async def test_a_secret_has_the_same_variable_in_every_part(filled: Control) -> None:
    whole = await exported(filled)
    parts = [await exported(filled, ("name", name)) for name in ("a-b", "a.b")]
    assert [one for part in parts for one in part["variables"]] == whole["variables"]
    assert len({one["name"] for one in whole["variables"]}) == 2
    assert [one for part in parts for one in part["definitions"]] == whole["definitions"][:2]


@pytest.mark.parametrize("kind", ["connector", "transformation", "pipeline"])
async def test_too_much_of_a_kind_is_refused_with_what_to_ask_for_instead(
    filled: Control, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await exported(filled)
    monkeypatch.setattr(pages, "PAGE_BYTES", 1)
    monkeypatch.setattr(applying, "PAGE_BYTES", 100)
    reply = await filled.call("GET", f"/api/export?kind={kind}")
    assert (reply.status, reply.json["code"]) == (413, "export-too-large")
    assert f"The {kind}s of this export" in reply.json["detail"]
    assert f"kind={kind}" in reply.json["detail"]
    of_kind = [one for one in whole["definitions"] if one["kind"] == kind]
    parts = [await exported(filled, ("kind", kind), ("name", one["name"])) for one in of_kind]
    assert [one for part in parts for one in part["definitions"]] == of_kind


async def test_an_export_that_is_refused_does_not_come_into_memory(control: Control, warehouse: str) -> None:
    long = {"region": {"type": "string", "default": "x" * 900_000}}
    for n in range(40):
        await control.good("POST", "/api/pipelines", a_pipeline(f"copy-{n:02}", parameters=long))
    tracemalloc.start()
    try:
        reply = await control.call("GET", "/api/export")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (reply.status, reply.json["code"]) == (413, "export-too-large")
    assert peak < 3 * pages.PAGE_BYTES
    part = await exported(control, ("name", "copy-07"), ("name", "copy-31"))
    assert named(part) == [("pipeline", "copy-07"), ("pipeline", "copy-31")]


@pytest.mark.parametrize("asked", ["kind=user", "name=", "names=a", f"name={'x' * 201}"])
async def test_what_cannot_be_exported_is_named(control: Control, asked: str) -> None:
    reply = await control.call("GET", f"/api/export?{asked}")
    assert (reply.status, reply.json["code"]) == (422, "query-invalid")
    assert asked.partition("=")[0] in str(reply.json["errors"])
