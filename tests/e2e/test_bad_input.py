"""Bad input at every endpoint: a problem that names field and cure, and nothing changed."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dataaggregator.ids import new_id
from tests.e2e.api import PASSWORD, Api, Json
from tests.e2e.world import Disk, Warehouse

Operation = tuple[str, str]
DEFINITION: Json = {
    "name": "bad-input",
    "sources": {"s": {"connector": "disk", "stream": "bad_input.csv"}},
    "transformations": ["bad-input"],
    "destinations": [{"connector": "disk", "stream": "bad_input.ndjson", "write": "replace"}],
    "triggers": [{"webhook": True}],
}
STEPS: list[Json] = [{"filter": "id > 0"}]

# What each operation that takes a body is sent when it is meant well; each is then spoilt in every way.
GOOD: dict[Operation, Json] = {
    ("POST", "/api/auth/login"): {"email": "a@example.org", "password": PASSWORD},
    ("POST", "/api/auth/refresh"): {"refresh_token": "t"},
    ("POST", "/api/auth/logout"): {"refresh_token": "t"},
    ("POST", "/api/auth/password"): {"current_password": PASSWORD, "new_password": "staple of that battery"},
    ("POST", "/api/auth/password/reset"): {"token": "dar_t", "new_password": "staple of that battery"},
    ("POST", "/api/users"): {"email": "new@example.org", "password": PASSWORD, "name": "N", "role": "viewer"},
    ("PUT", "/api/users/{user}"): {"email": "new@example.org", "name": "N", "role": "viewer", "active": True},
    ("PATCH", "/api/users/{user}"): {"name": "N", "active": True},
    ("POST", "/api/api-keys"): {"name": "new", "scopes": ["runs:read"]},
    ("POST", "/api/workspaces"): {"name": "new"},
    ("POST", "/api/workspaces/{workspace}/members"): {"user": "a@example.org", "role": "viewer"},
    ("PUT", "/api/workspaces/{workspace}/members/{user}"): {"role": "viewer"},
    ("POST", "/api/audit/verify"): {"heads": []},
    ("PUT", "/api/run-limits"): {"runs": 1000},
    ("POST", "/api/connectors"): {"name": "new", "type": "files", "config": {"root": "file:///tmp"}},
    ("PUT", "/api/connectors/{connector}"): {"name": "new", "type": "files", "config": {"root": "file:///tmp"}},
    ("PATCH", "/api/connectors/{connector}"): {"name": "new"},
    ("POST", "/api/connectors/test"): {"type": "files", "config": {"root": "file:///tmp"}},
    ("POST", "/api/connectors/{connector}/preview"): {"stream": "bad_input.csv", "limit": 1},
    ("POST", "/api/transformations"): {"name": "new", "steps": STEPS},
    ("PUT", "/api/transformations/{transformation}"): {"name": "new", "steps": STEPS},
    ("PATCH", "/api/transformations/{transformation}"): {"steps": STEPS},
    ("POST", "/api/transformations/test"): {"steps": STEPS, "sample_data": [{"id": 1}]},
    ("POST", "/api/transformations/{transformation}/test"): {"sample_data": [{"id": 1}]},
    ("POST", "/api/pipelines"): {**DEFINITION, "name": "new"},
    ("PUT", "/api/pipelines/{pipeline}"): DEFINITION,
    ("PATCH", "/api/pipelines/{pipeline}"): {"timeout": "1h"},
    ("POST", "/api/pipelines/plan"): {**DEFINITION, "name": "new", "sample_rows": 1},
    ("POST", "/api/pipelines/{pipeline}/plan"): {**DEFINITION, "sample_rows": 1},
    ("POST", "/api/pipelines/{pipeline}/schema/approve"): {
        "changes": [{"connector": "disk", "stream": "bad_input.ndjson", "kind": "added", "field": "x"}]
    },
    ("POST", "/api/apply"): {
        "definitions": [{"kind": "transformation", "name": "new", "steps": STEPS}],
        "dry_run": True,
    },
    ("POST", "/api/triggers/preview"): {"trigger": {"every": "1h"}, "count": 1},
    ("POST", "/api/pipelines/{pipeline}/hook/rotate"): {"secret": "whsec_" + "A" * 32, "overlap_seconds": 0},
    ("POST", "/api/hooks"): {"parameters": {}},
    ("POST", "/api/hooks/{token}"): {"parameters": {}},
    ("POST", "/api/webhooks"): {"name": "new", "url": "https://example.org/", "types": ["run.*"], "enabled": False},
    ("PUT", "/api/webhooks/{webhook}"): {"name": "new", "url": "https://example.org/", "types": ["run.*"]},
    ("PATCH", "/api/webhooks/{webhook}"): {"enabled": False},
    ("POST", "/api/webhooks/{webhook}/rotate-secret"): {"secret": "whsec_" + "A" * 32, "overlap_seconds": 0},
    ("POST", "/api/pipelines/{pipeline}/runs"): {"parameters": {}, "full_refresh": True, "priority": "low"},
    ("POST", "/api/pipelines/{pipeline}/backfills"): {
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-02T00:00:00Z",
        "interval": "1h",
        "concurrency": 1,
        "parameters": {},
        "overwrite": True,
    },
    ("PUT", "/api/pipelines/{pipeline}/state"): {"cursors": [{"source": "s", "cursor": None}]},
    ("POST", "/api/runs/{run}/rejected/replay"): {"stage": "s", "rule": "r", "version": 1, "overwrite": True},
}
NAMES = [" ".join(operation) for operation in GOOD]
# What is there already, by the parameter of the path that means it.
THERE = {
    "user": "bad-input@example.org",
    "workspace": "default",
    "connector": "bad-input",
    "transformation": "bad-input",
    "pipeline": "bad-input",
    "run": "",
    "token": "",
    "webhook": "bad-input",
    "api_key": "bad-input",
    "delivery": "01a21353-0000-7000-8000-000000000000",  # never made
    "event": "01a21353-0000-7000-8000-000000000000",  # never set aside
    "backfill": "01a21353-0000-7000-8000-000000000001",  # never asked for
}
ONLY_BY_ID = ("run", "event", "delivery", "backfill")
LISTS = (
    "/api/users",
    "/api/workspaces",
    "/api/connectors",
    "/api/transformations",
    "/api/pipelines",
    "/api/runs",
    "/api/webhooks",
    "/api/api-keys",
)


@pytest.fixture(scope="module", autouse=True)
async def there(api: Api, disk: Disk) -> None:
    """One of everything."""
    disk.write("bad_input.csv", "id\n1\n")
    await api.post("/api/users", {"email": THERE["user"], "password": PASSWORD})
    config = {"root": disk.folder.as_uri()}
    await api.post("/api/connectors", {"name": "bad-input", "type": "files", "config": config})
    await api.post("/api/transformations", {"name": "bad-input", "steps": STEPS})
    await api.post("/api/pipelines", DEFINITION)
    await api.post(
        "/api/webhooks", {"name": "bad-input", "url": "https://example.org/", "types": ["run.*"], "enabled": False}
    )
    await api.post("/api/api-keys", {"name": "bad-input", "scopes": ["runs:read"]})
    THERE["run"] = (await api.run("bad-input"))["id"]
    THERE["token"] = (await api.post("/api/pipelines/bad-input/hook/rotate", expect=200))["token"]


@pytest.fixture(scope="module", autouse=True)
async def nothing_changes(
    api: Api, stranger: Api, viewer: Api, warehouse: Warehouse, there: None
) -> AsyncIterator[None]:
    """Whatever the tests of this file send: everything is afterwards as it was before."""
    before = await everything(api)
    api.always["Hook-Token"] = THERE["token"]
    yield
    api.always.clear()
    assert await everything(api) == before


async def everything(api: Api) -> list[Json]:
    found = []
    for path in LISTS:
        for item in await api.items(path, limit=500):
            # Schedules of other files may fire meanwhile; nothing of that is an answer to this file's calls.
            if path == "/api/runs" and item["pipeline_name"] != "bad-input":
                continue
            found.append({name: value for name, value in item.items() if name not in ("last_run", "next_run_at")})
    return [{name: value for name, value in one.items() if name != "last_login_at"} for one in found]


def at(template: str, **changed: str) -> str:
    """The path with what is there in its places."""
    return template.format(**{**THERE, **changed})


def operations(api: Api) -> Iterator[tuple[str, str, Json]]:
    for template, methods in api.document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), template, operation


def fields_of(problem: Json) -> set[str]:
    return {error["field"] for error in problem.get("errors") or ()}


def test_every_operation_that_takes_a_body_is_tried_here(api: Api) -> None:
    taking = {(method, template) for method, template, operation in operations(api) if "requestBody" in operation}
    assert taking == set(GOOD)


@pytest.mark.parametrize(("method", "template"), GOOD, ids=NAMES)
async def test_a_body_that_is_not_json_is_400(api: Api, method: str, template: str) -> None:
    for raw in (b"{", b"{'a': 1}", b'{"a": 1} x', b"\xff\xfe", b'{"a": NaN}'):
        problem = await api.refused(method, at(template), raw=raw)
        assert (problem["status"], problem["code"]) == (400, "json-malformed"), raw


@pytest.mark.parametrize(("method", "template"), GOOD, ids=NAMES)
async def test_a_body_of_another_kind_is_refused(api: Api, method: str, template: str) -> None:
    for raw in (b"[]", b'"text"', b"7", b"null"):
        assert (await api.refused(method, at(template), raw=raw))["status"] == 422, raw
    kind = {"Content-Type": "text/csv"}
    problem = await api.refused(method, at(template), raw=json.dumps(GOOD[method, template]).encode(), headers=kind)
    assert (problem["status"], problem["code"]) == (415, "media-type-unsupported")


@pytest.mark.parametrize(("method", "template"), GOOD, ids=NAMES)
async def test_an_unknown_field_is_named(api: Api, method: str, template: str) -> None:
    problem = await api.refused(method, at(template), {**GOOD[method, template], "colour": "red"})
    assert problem["status"] == 422
    assert {"field": "colour", "message": "unknown field", "code": "unknown-field"} in problem["errors"]


@pytest.mark.parametrize(("method", "template"), GOOD, ids=NAMES)
async def test_a_wrong_type_is_named(api: Api, method: str, template: str) -> None:
    for name in GOOD[method, template]:
        spoilt = {**GOOD[method, template], name: {"not": ["what", 1, "expects"]}}
        problem = await api.refused(method, at(template), spoilt)
        assert problem["status"] == 422, name
        assert any(field.startswith(name) for field in fields_of(problem)), (name, problem["errors"])


@pytest.mark.parametrize(("method", "template"), GOOD, ids=NAMES)
async def test_every_missing_field_is_named(api: Api, method: str, template: str) -> None:
    body = api.document["paths"][template][method.lower()]["requestBody"]
    schema = next(iter(body["content"].values()))["schema"]
    if "$ref" in schema:
        schema = api.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    required = set(schema.get("required", ()))
    if required:
        problem = await api.refused(method, at(template), {})
        assert problem["status"] == 422
        assert required <= fields_of(problem)


@pytest.mark.parametrize(("method", "template"), GOOD, ids=NAMES)
async def test_a_body_that_is_too_large_is_413(api: Api, method: str, template: str) -> None:
    large = template == "/api/apply" or (template.endswith("/test") and "transformations" in template)
    allowed = (8 if large else 1) * 1024 * 1024
    problem = await api.refused(method, at(template), raw=b'{"a": "' + b"x" * allowed + b'"}')
    assert (problem["status"], problem["code"]) == (413, "body-too-large")


async def test_what_is_not_there_is_404_by_id_and_by_name(api: Api) -> None:
    tried = 0
    for method, template, _ in operations(api):
        if "{" not in template:
            continue
        names = [name for name in THERE if f"{{{name}}}" in template]
        body = {"body": GOOD[method, template]} if (method, template) in GOOD else {}
        for wrong in [str(new_id()), "nowhere"][: 1 if set(names) & set(ONLY_BY_ID) else 2]:
            problem = await api.refused(method, at(template, **dict.fromkeys(names, wrong)), **body)
            assert problem["status"] == 404, (method, template, problem)
            tried += 1
    assert tried > 60


async def test_what_is_no_id_and_no_name_is_named(api: Api) -> None:
    for method, template, _ in operations(api):
        if template.count("{") == 1:
            name = next(name for name in THERE if f"{{{name}}}" in template)
            wrong = "not-an-id" if name in ONLY_BY_ID else "x" * 201
            problem = await api.refused(method, at(template, **{name: wrong}))
            assert (problem["status"], problem["code"], fields_of(problem)) == (422, "path-invalid", {name})


async def test_a_wrong_query_is_named(api: Api) -> None:
    """But where an identity provider writes the query, who may add to it what it likes (RFC 6749, 4.1.2)."""
    for method, template, operation in operations(api):
        if method != "GET" or template in ("/health/live", "/health/ready", "/metrics", "/api/auth/oidc/callback"):
            continue
        wrong: dict[str, Any] = {"colour": "red"}
        known = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        wrong |= {"limit": 0} if "limit" in known else {}
        wrong |= {"sort": "drop table"} if "sort" in known else {}
        problem = await api.refused(method, at(template), query=wrong)
        assert (problem["status"], problem["code"]) == (422, "query-invalid"), (template, problem)
        assert set(wrong) <= fields_of(problem), (template, problem)
        if "cursor" in known:
            assert (await api.refused(method, at(template), query={"cursor": "made-up"}))["status"] == 422, template


async def test_without_a_token_nothing_is_told(api: Api) -> None:
    anybody = api.anonymous()
    for method, template, operation in operations(api):
        if "security" not in operation:
            continue
        for token in (None, "not.a.token", (api.token or "")[:-4] + "AAAA"):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            problem = await anybody.refused(method, at(template), headers=headers)
            assert problem["status"] == 401, (method, template, problem)


async def test_what_belongs_to_another_workspace_is_not_there(api: Api, stranger: Api) -> None:
    for method, template, operation in operations(api):
        if "{" not in template or "security" not in operation:
            continue
        body = {"body": GOOD[method, template]} if (method, template) in GOOD else {}
        problem = await stranger.refused(method, at(template), **body)
        assert problem["status"] == 404, (method, template, problem)
        entered = await stranger.entering("default").refused(method, at(template), **body)
        assert (entered["status"], entered["code"]) == (403, "workspace-denied"), (method, template, entered)
    assert await stranger.items("/api/pipelines") == []
    assert await stranger.items("/api/runs") == []


async def test_who_may_only_look_changes_nothing(api: Api, viewer: Api) -> None:
    for method, template, operation in operations(api):
        needed = operation.get("x-permission")
        if method == "GET" or needed in (None, "self", "definitions:read"):
            continue
        body = {"body": GOOD[method, template]} if (method, template) in GOOD else {}
        problem = await viewer.refused(method, at(template), **body)
        assert (problem["status"], problem["code"]) == (403, "permission-denied"), (method, template, problem)
        assert needed in problem["detail"]


async def test_a_wrong_state_is_409_and_says_why(api: Api) -> None:
    run = THERE["run"]
    in_use = await api.refused("DELETE", "/api/transformations/bad-input")
    ended = await api.refused("POST", f"/api/runs/{run}/cancel")
    taken = [
        await api.refused("POST", path, GOOD["POST", path] | {"name": "bad-input"})
        for path in ("/api/connectors", "/api/transformations", "/api/pipelines")
    ]
    workspace = await api.refused("POST", "/api/workspaces", {"name": "default"})
    assert (ended["status"], ended["code"]) == (409, "run-ended")
    for problem in (in_use, *taken, workspace):
        assert problem["status"] == 409, problem
        assert "bad-input" in problem["detail"] or "default" in problem["detail"], problem


async def test_a_wrong_header_is_named(api: Api) -> None:
    path = "/api/pipelines/bad-input"
    problem = await api.refused("PATCH", path, {"timeout": "1h"}, headers={"If-Match": "1"})
    assert (problem["status"], fields_of(problem)) == (422, {"If-Match"})
    keyed = await api.refused("POST", f"{path}/runs", {}, headers={"Idempotency-Key": "x" * 256})
    assert (keyed["status"], fields_of(keyed)) == (422, {"Idempotency-Key"})


async def test_a_connector_is_checked_by_its_types_own_fields(api: Api, warehouse: Warehouse) -> None:
    for type_, config, fields in (
        ("postgres", {"host": "h", "port": "x", "colour": 1}, {"config.port", "config.colour"}),
        ("postgres", {}, {"config"}),
        ("files", {"root": "ftp://there"}, {"config"}),
        ("files", {"root": "file:///", "csv": {"delimiter": "ab"}}, {"config.csv.delimiter"}),
        ("http", {"base_url": "nowhere"}, {"config.base_url"}),
        ("http", {"base_url": "http://h", "streams": {"s": {}}}, {"config.streams.s.path"}),
        ("oracle", {}, {"type"}),
    ):
        problem = await api.refused("POST", "/api/connectors", {"name": "wrong", "type": type_, "config": config})
        assert problem["status"] == 422
        found = fields_of(problem)
        assert all(any(one.startswith(field) for one in found) for field in fields), (type_, config, problem)
