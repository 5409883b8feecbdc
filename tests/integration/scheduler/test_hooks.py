"""Hooks: a call starts one run, once; what is not meant starts none; and nothing tells the token."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataaggregator.permissions import Role
from dataaggregator.signatures import new_secret, sign
from dataaggregator.telemetry import logs, metrics
from tests.integration.control import OTHER_WORKSPACE, WORKSPACE, Control, Reply, until
from tests.sql import stored

pytestmark = pytest.mark.usefixtures("warehouse")

REGION = {"region": {"type": "string"}}
HOOK = "/api/pipelines/copy/hook"


async def hooked(control: Control, /, trigger: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A pipeline with a hook, and its token and secret."""
    await control.pipeline(triggers=[{"webhook": True, **(trigger or {})}], **changes)
    made: dict[str, Any] = await control.good("POST", f"{HOOK}/rotate")
    return made


async def called(control: Control, made: Mapping[str, Any], body: Any = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await control.call("POST", made["path"], body, headers=named)


async def runs(control: Control) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await control.good("GET", "/api/pipelines/copy/runs"))["items"]
    return found


async def test_a_call_starts_a_run_and_its_slot_is_evidence(control: Control) -> None:
    made = await hooked(control, parameters=REGION)
    reply = await called(control, made, {"parameters": {"region": "EU"}})
    run = reply.json
    assert (reply.status, run["trigger"], run["parameters"]) == (202, "webhook", {"region": "EU"})
    assert reply.headers["Location"] == f"/api/runs/{run['id']}"
    [slot] = (await control.good("GET", "/api/pipelines/copy/slots"))["items"]
    assert (slot["outcome"], slot["run_id"], slot["trigger"]) == ("fired", run["id"], {"webhook": True})
    [token] = (await control.good("GET", HOOK))["tokens"]
    assert token["last_used_at"] is not None
    assert token["ends_at"] is None


async def test_a_token_in_a_header_starts_what_it_starts_in_the_address(control: Control) -> None:
    made = await hooked(control)
    by_header = {"Hook-Token": made["token"], "webhook-id": "evt_1"}
    first = await control.call("POST", "/api/hooks", headers=by_header)
    again = await called(control, made, webhook_id="evt_1")
    assert (first.status, again.status) == (202, 202)
    assert first.json["id"] == again.json["id"]
    wrong = await control.call("POST", "/api/hooks", headers={"Hook-Token": "dah_made-up"})
    assert (wrong.status, wrong.json["code"]) == (404, "hook-unknown")
    for none in ({}, {"Hook-Token": ""}):
        without = await control.call("POST", "/api/hooks", headers=none)
        assert (without.status, without.json["errors"][0]["field"]) == (422, "Hook-Token")


async def test_the_same_delivery_starts_one_run_however_often_and_wherever_it_comes(control: Control) -> None:
    tokens = [await hooked(control), await control.good("POST", f"{HOOK}/rotate")]
    made = tokens[0]
    replies = await asyncio.gather(*(called(control, tokens[at % 2], webhook_id="evt_1") for at in range(10)))
    assert {(reply.status, reply.json["id"]) for reply in replies} == {(202, (await runs(control))[0]["id"])}
    assert len(await runs(control)) == 1
    for _ in range(2):
        await called(control, made)
    await called(control, made, webhook_id="evt_2")
    assert len(await runs(control)) == 4
    for header in ("idempotency_key", "idempotency_key", "webhook_id"):
        assert (await called(control, made, **{header: "order-7"})).status == 202
    assert len(await runs(control)) == 5
    assert (await called(control, made, webhook_id="x" * 256)).fields == {"webhook-id": "header"}


async def test_parameters_that_do_not_fit_are_named_and_start_nothing(control: Control) -> None:
    made = await hooked(control, parameters={**REGION, "day": {"type": "date", "default": "2026-01-31"}})
    wrong = await called(control, made, {"parameters": {"day": "soon", "colour": 1}}, webhook_id="evt_1")
    assert wrong.status == 422
    assert set(wrong.fields) == {"parameters.region", "parameters.day", "parameters.colour"}
    strange = await called(control, made, {"parameters": [], "ref": "main"})
    assert strange.fields == {"ref": "unknown-field", "parameters": "object"}
    assert await runs(control) == []
    # What was refused was not the delivery: once it is put right it starts its run.
    right = await called(control, made, {"parameters": {"region": "EU"}}, webhook_id="evt_1")
    assert right.status == 202


async def test_a_senders_own_document_is_read_where_the_trigger_says(control: Control) -> None:
    trigger = {"parameters": {"region": "$.place.region", "count": "$.count"}}
    known = {**REGION, "count": {"type": "integer", "default": 1}}
    made = await hooked(control, trigger, parameters=known)
    body = {"place": {"region": "EU", "more": [1]}, "sender": "erp", "parameters": {"region": "US"}}
    assert (await called(control, made, body)).json["parameters"] == {"region": "EU", "count": 1}
    for document in ({"place": "EU"}, {}):
        assert (await called(control, made, document)).fields == {"parameters.region": "missing-field"}
    assert (await called(control, made, {"place": {"region": 7}, "count": "x"})).fields == {
        "parameters.region": "parameter",
        "parameters.count": "parameter",
    }


async def test_a_definition_that_means_nothing_is_refused_at_saving(control: Control) -> None:
    body = {
        "name": "copy",
        "sources": {"s": {"connector": "warehouse", "stream": "t"}},
        "destinations": [{"connector": "warehouse", "stream": "u"}],
    }
    for triggers, field in (
        ([{"webhook": False}], "triggers[0].webhook"),
        ([{"webhook": True, "parameters": {"region": "$"}}], "triggers[0].parameters.region"),
        ([{"webhook": True, "parameters": {"region": "region"}}], "triggers[0].parameters.region"),
        ([{"webhook": True}, {"webhook": True, "signed": True}], "triggers[1]"),
        ([{"webhook": True, "on": "failed"}], "triggers[0].on"),
    ):
        refused = await control.call("POST", "/api/pipelines", {**body, "triggers": triggers})
        assert (refused.status, set(refused.fields)) == (422, {field}), triggers
    needs = {"parameters": REGION, "triggers": [{"webhook": True}, {"every": "1h"}]}
    refused = await control.call("POST", "/api/pipelines", body | needs)
    assert set(refused.fields) == {"parameters.region.default"}


async def test_a_signed_hook_takes_only_what_its_secret_has_signed(control: Control) -> None:
    made = await hooked(control, {"signed": True})
    now, raw = datetime.now(UTC), b'{"parameters":{}}'

    async def signed(secret: str, body: Any = {"parameters": {}}, at: datetime = now) -> int:  # noqa: B006
        headers = sign([secret], "evt_1", at, raw)
        return (await control.call("POST", made["path"], body, headers=headers)).status

    assert await signed(new_secret()) == 401
    assert await signed(made["secret"], {"parameters": {}, "x": 1}) == 401
    assert await signed(made["secret"], at=now - timedelta(minutes=6)) == 401
    unsigned = await called(control, made)
    assert (unsigned.status, unsigned.json["code"]) == (401, "signature-invalid")
    assert await runs(control) == []
    assert await signed(made["secret"]) == 202
    again = await control.good("POST", f"{HOOK}/rotate", {"secret": new_secret(), "overlap_seconds": 60})
    assert [await signed(secret) for secret in (made["secret"], again["secret"])] == [202, 202]
    assert len(await runs(control)) == 1


async def test_a_token_that_was_replaced_ends_when_it_was_said(control: Control) -> None:
    first = await hooked(control)
    second = await control.good("POST", f"{HOOK}/rotate", {"overlap_seconds": 3600})
    assert second["previous_ends_at"] is not None
    assert [(await called(control, made)).status for made in (first, second)] == [202, 202]
    await control.good("POST", f"{HOOK}/rotate", {"overlap_seconds": 1})

    async def ended() -> bool:
        return (await called(control, first)).status == 404

    await until(ended, "the overlap to end")
    third = await control.good("POST", f"{HOOK}/rotate", {"overlap_seconds": 0})
    assert third["previous_ends_at"] is None
    assert [(await called(control, made)).status for made in (first, second, third)] == [404, 404, 202]
    await control.good("DELETE", HOOK)
    assert (await called(control, third)).status == 404
    assert (await control.good("GET", HOOK))["tokens"] == []


async def test_what_is_no_hook_or_no_longer_one_is_answered_alike(control: Control) -> None:
    made = await hooked(control)
    unknown = await called(control, {"path": "/api/hooks/dah_made-up"})
    await control.good("PATCH", "/api/pipelines/copy", {"triggers": []})
    removed = await called(control, made)
    assert (await control.call("GET", HOOK)).status == 404
    await control.good("PATCH", "/api/pipelines/copy", {"triggers": [{"webhook": True}]})
    there_again = await called(control, made)
    await control.good("DELETE", "/api/pipelines/copy")
    deleted = await called(control, made)
    for reply in (unknown, removed, there_again, deleted):
        told = {name: value for name, value in reply.json.items() if name != "trace_id"}
        assert (reply.status, told) == (404, told | {"code": "hook-unknown"})
        assert told == {name: value for name, value in unknown.json.items() if name != "trace_id"}


async def test_a_pipeline_that_rests_refuses_the_call_and_a_change_of_it_keeps_the_address(control: Control) -> None:
    made = await hooked(control)
    await control.good("POST", "/api/pipelines/copy/pause")
    paused = await called(control, made, webhook_id="evt_1")
    assert (paused.status, paused.json["code"]) == (409, "pipeline-paused")
    assert await runs(control) == []
    await control.good("POST", "/api/pipelines/copy/resume")
    await control.good("PATCH", "/api/pipelines/copy", {"triggers": [{"webhook": True, "parameters": {}}]})
    assert (await called(control, made, {"anything": 1}, webhook_id="evt_1")).status == 202


async def test_only_editors_of_the_workspace_make_tokens(control: Control) -> None:
    await hooked(control)
    for role, status in ((Role.VIEWER, 403), (Role.OPERATOR, 403), (Role.EDITOR, 200)):
        assert (await control.call("POST", f"{HOOK}/rotate", role=role)).status == status
    assert (await control.call("POST", f"{HOOK}/rotate", workspace=OTHER_WORKSPACE)).status == 404
    wrong = await control.call("POST", f"{HOOK}/rotate", {"secret": "short", "overlap_seconds": -1})
    assert set(wrong.fields) == {"overlap_seconds"}
    assert set((await control.call("POST", f"{HOOK}/rotate", {"secret": "short"})).fields) == {"secret"}


async def test_the_run_starts_of_a_workspace_are_limited_together(control: Control) -> None:
    made = await hooked(control, overlap="queue")
    while (await control.ports.limits.take("run", f"workspace:{WORKSPACE}")).allowed:
        pass
    refused = await called(control, made)
    assert (refused.status, refused.json["code"]) == (429, "rate-limited")
    assert int(refused.headers["Retry-After"]) >= 1


async def test_token_and_secret_are_told_by_nothing(
    control: Control, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        made = await hooked(control, {"signed": True})
        await called(control, made)
        headers = sign([made["secret"]], "evt_1", datetime.now(UTC), b"")
        assert (await control.call("POST", made["path"], headers=headers)).status == 202
        await called(control, {"path": made["path"] + "x"})
        await control.call("POST", "/api/hooks", headers={"Hook-Token": made["token"] + "x"})
        rotated = await control.call("POST", f"{HOOK}/rotate")
    assert (rotated.status, rotated.headers["Cache-Control"]) == (200, "no-store")
    written = "".join(str(logs.line(record)) + record.getMessage() for record in caplog.records)
    assert "http_call" in written
    sinks = [written, metrics.exposition().decode(), *await stored(database_url), str(await control.good("GET", HOOK))]
    for secret in (made["token"], made["token"].removeprefix("dah_"), made["secret"], made["secret"][6:]):
        for form in (secret, secret.encode().hex()):
            assert not any(form in sink for sink in sinks)
