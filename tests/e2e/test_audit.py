"""The audit of all services: what each did stands in it, and the command line reads, exports and verifies it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.e2e.api import Api, until
from tests.e2e.platform import Platform
from tests.e2e.world import Disk

Json = dict[str, Any]


async def entry(api: Api, action: str, resource: str) -> Json:
    """The entry of something that was just done."""

    async def look() -> Json | None:
        found = await api.items("/api/audit", action=action, resource_id=resource)
        return found[0] if found else None

    return await until(look, f"{action} in the audit")


def called(name: str) -> Json:
    """A webhook that calls nobody: whatever else runs on the platform would be tried there again and again."""
    return {"name": name, "url": "https://example.org/", "types": ["run.*"], "enabled": False}


async def test_what_each_service_does_stands_in_one_audit(api: Api, disk: Disk) -> None:
    config = {"root": disk.folder.as_uri()}
    connector = await api.post("/api/connectors", {"name": "audited", "type": "files", "config": config})
    webhook = await api.post("/api/webhooks", called("audited"))
    steps = [{"filter": "true"}]
    transformation = await api.post("/api/transformations", {"name": "audited", "steps": steps})
    me = await api.get("/api/auth/me")
    for service, made in (("connectors", connector), ("gateway", webhook), ("scheduler", transformation)):
        kind = {"connectors": "connector", "gateway": "webhook", "scheduler": "transformation"}[service]
        found = await entry(api, f"{kind}.created", made["id"])
        assert (found["service"], found["resource_type"], found["actor_id"]) == (service, kind, me["id"])
        assert (found["address"], found["detail"]["name"]) == ("127.0.0.1", "audited")


async def test_what_a_key_did_names_the_key_beside_its_owner(api: Api) -> None:
    scopes = ["definitions:write", "identity:admin"]
    key = await api.post("/api/api-keys", {"name": "nightly", "scopes": scopes})
    program, me = replace(api, token=key["key"]), await api.get("/api/auth/me")
    transformation = await program.post("/api/transformations", {"name": "by-key", "steps": [{"filter": "true"}]})
    made = {
        "transformation.created": transformation,
        "webhook.created": await program.post("/api/webhooks", called("by-key")),
        "user.created": await program.new_user("viewer"),
    }
    for action, one in made.items():
        found = await entry(api, action, one["id"])
        assert (found["actor_id"], found["actor"]) == (me["id"], me["email"])
        assert found["detail"]["api_key"] == {"id": key["id"], "name": "nightly"}
    assert "api_key" not in (await entry(api, "api_key.created", key["id"]))["detail"]
    assert {one["action"] for one in (await api.get("/api/audit", api_key=key["id"]))["items"]} == set(made)
    assert (await api.get("/api/audit", api_key=me["id"]))["items"] == []


async def test_a_change_is_told_with_what_was_before_and_no_secret(api: Api) -> None:
    auth = {"type": "bearer", "token": "canary-of-the-audit"}
    body = {"name": "told", "type": "http", "config": {"base_url": "https://example.org/", "auth": auth}}
    connector = await api.post("/api/connectors", body)
    other = {**body, "config": {"base_url": "https://example.com/", "auth": {**auth, "token": "canary-too"}}}
    await api.good("PUT", "/api/connectors/told", other, expect=200)
    await api.delete("/api/connectors/told")
    found = [await entry(api, f"connector.{done}", connector["id"]) for done in ("created", "updated", "deleted")]
    created, updated, deleted = (one["detail"] for one in found)
    assert created["after"]["config"]["auth"]["token"] == "********"
    assert updated["changes"] == [
        {
            "field": "config.base_url",
            "change": "changed",
            "before": "https://example.org/",
            "after": "https://example.com/",
        },
        {"field": "config.auth.token", "change": "changed", "before": "********", "after": "********"},
    ]
    assert deleted["before"]["config"]["base_url"] == "https://example.com/"
    assert "canary" not in json.dumps(found)


async def test_a_new_version_of_a_definition_is_told_by_what_differs(api: Api) -> None:
    made = await api.post("/api/transformations", {"name": "told", "steps": [{"filter": "a > 1"}]})
    await api.good("PATCH", "/api/transformations/told", {"steps": [{"filter": "a > 2"}]}, expect=200)
    updated = await entry(api, "transformation.updated", made["id"])
    change = {"field": "steps[0].filter", "change": "changed", "before": "a > 1", "after": "a > 2"}
    assert updated["detail"] == {"name": "told", "version": 2, "changes": [change]}


async def test_the_command_line_lists_exports_and_verifies(platform: Platform, api: Api, tmp_path: Path) -> None:
    listed = platform.command("audit", "list", "--action", "user.*", "--limit", "1")
    assert (listed.returncode, "user." in listed.stdout) == (0, True)
    file, heads = tmp_path / "audit.ndjson", tmp_path / "heads.json"
    assert platform.command("audit", "export", "-o", str(file)).returncode == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["service"] for line in lines} >= {"auth", "connectors"}
    for _ in range(2):  # the second time against what was kept the first time
        verified = platform.command("audit", "verify", "--heads", str(heads))
        assert (verified.returncode, verified.stderr) == (0, "")
        assert "whole" in verified.stdout
    kept = json.loads(heads.read_text())
    kept[0]["digest"] = "0" * 64
    heads.write_text(json.dumps(kept))
    refused = platform.command("audit", "verify", "--heads", str(heads))
    assert refused.returncode == 1
    assert f"broken at entry {kept[0]['position']}" in refused.stdout
    assert json.loads(heads.read_text()) == kept
    as_json = json.loads(platform.command("--json", "audit", "verify").stdout)
    assert as_json["ok"] is True
