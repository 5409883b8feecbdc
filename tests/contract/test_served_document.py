"""The served document is true: whatever Schemathesis makes up, no server error and no answer it does not declare."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.client import ApiError, Client
from tests.e2e.platform import Platform

PROGRAM = Path(sys.executable).with_name("schemathesis")
HOOKS = Path(__file__).parent / "served"
WHOLE = os.environ.get("CONTRACT") == "all"
EXAMPLES = 100 if WHOLE else 2
SEQUENCES, LINKS = (40, 100) if WHOLE else (2, 5)
LIMITS = {"RATE_LIMIT_API": "1000000/60", "RATE_LIMIT_LOGIN": "100000/60", "RATE_LIMIT_RUN": "100000/60"}
# The administrator's token is taken once and must outlive the calls of a slow machine.
TOKENS = {"ACCESS_TOKEN_EXPIRE_MINUTES": "240"}

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)

SEQUENCE_CHECKS = (*CHECKS, "use_after_free", "ensure_resource_availability")

LEFT_OUT = {
    "/api/auth/logout": "it would end the login that all other calls use",
    "/api/events": "a stream without an end; tests/e2e/test_runs.py reads it",
    "/api/runs/{run}/events": "a stream that ends with its run; tests/e2e/test_runs.py reads it",
}

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
STEPS = [{"filter": "id > 0"}]
MADE: dict[str, Any] = {
    "/api/connectors": {"name": "there", "type": "files"},
    "/api/transformations": {"name": "there", "steps": STEPS},
    "/api/pipelines": {
        "name": "there",
        "sources": {"s": {"connector": "used", "stream": "there.csv"}},
        "destinations": [{"connector": "used", "stream": "out.ndjson", "write": "replace"}],
    },
    "/api/users": {"email": "there@example.org", "password": "correct horse battery", "role": "viewer"},
}
"""Path → what is there, and is put back when a call has taken it away."""

AWAY = {"connector": "away", "read": "incremental", "stream": "public.there", "cursor_field": "at"}
BODIES: dict[str, list[Any]] = {
    **{path: [body] for path, body in MADE.items()},
    "/api/pipelines": [
        MADE["/api/pipelines"],
        {
            "name": "there",
            "sources": {"s": AWAY},
            "destinations": [{"connector": "away", "stream": "public.out", "write": "merge", "key": ["id"]}],
        },
    ],
    "/api/workspaces": [{"name": "there"}],
    "/api/workspaces/{workspace}/members": [{"user": "there@example.org", "role": "viewer"}],
    "/api/api-keys": [{"name": "there", "scopes": ["runs:read"]}],
    "/api/webhooks": [{"name": "there", "url": "https://example.org/", "types": ["pipeline.late.v1"]}],
    "/api/pipelines/{pipeline}/runs": [{}],
    "/api/pipelines/{pipeline}/backfills": [
        {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T02:00:00Z", "interval": "1h", "overwrite": True},
    ],
}
"""Path → what a sequence of calls can begin with: hardly ever is a right body made up. One pipeline's runs succeed, the
other's intervals can be loaded again."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform for this alone: what is made up is left behind in it."""
    started = Platform(tmp_path_factory.mktemp("contract"), {**LIMITS, **TOKENS})
    started.start()
    try:
        yield started
    finally:
        assert started.stop() == 0, started.printed()


@pytest.fixture(scope="module")
async def client(platform: Platform) -> AsyncIterator[Client]:
    client = await platform.client()
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


@pytest.fixture(scope="module")
async def there(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Path parameter → the name of something that is there."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "there.csv").write_text("id\n1\n2\n")
    MADE["/api/connectors"]["config"] = {"root": folder.as_uri()}
    await client.post("/api/connectors", {**MADE["/api/connectors"], "name": "used"})
    await client.post("/api/connectors", {"name": "away", "type": "postgres", "config": {"url": NOWHERE}})
    for path, body in MADE.items():
        await client.post(path, body)
    run = await client.finished_run((await client.start_run("there"))["id"])
    assert run["status"] == "succeeded", run["error"]
    return {
        "connector": "there",
        "transformation": "there",
        "pipeline": "there",
        "user": "there@example.org",
        "workspace": "default",
        "run": run["id"],
    }


@pytest.fixture(scope="module")
async def environment(platform: Platform, client: Client, there: dict[str, str]) -> dict[str, str]:
    """What the hooks are told, in a process of their own."""
    administrator = await client.get("/api/auth/me")
    assert client._token is not None
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "PYTHONPATH": str(HOOKS),
        "SCHEMATHESIS_HOOKS": "hooks",
        "CONTRACT_URL": platform.url,
        "CONTRACT_TOKEN": client._token,
        "CONTRACT_THERE": json.dumps(there),
        "CONTRACT_MADE": json.dumps(MADE),
        "CONTRACT_BODIES": json.dumps(BODIES),
        "CONTRACT_ADMINISTRATOR": json.dumps([administrator["id"], administrator["email"].lower()]),
    }


async def _told(platform: Platform, environment: dict[str, str], folder: Path, *words: str) -> str:
    """What Schemathesis says at the end of a run in which nothing was wrong."""
    token = environment["CONTRACT_TOKEN"]
    all_words = [
        *("--config-file", str(HOOKS / "schemathesis.toml"), "run", f"{platform.url}/api/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", *words),
        # One at a time: Python 3.11 loses count of its own parser's depth where several threads parse.
        *("--continue-on-failure", "--workers", "1", "--no-shrink"),
        *("--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"),
        *(word for path in LEFT_OUT for word in ("--exclude-path", path)),
    ]
    if not WHOLE:  # the same calls at every run: what is new is looked for by `make test-contract`
        all_words += ["--seed", "7", "--generation-database", "none"]
    done = await asyncio.to_thread(
        subprocess.run,
        [str(PROGRAM), *all_words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout.replace(token, "…")[-12000:]
    bugs = [line for line in platform.log.read_text().splitlines() if '"http_bug"' in line]
    assert bugs == [], [*bugs[:3], told]
    assert done.returncode == 0, told + done.stderr[-2000:]
    return told


@pytest.mark.timeout(7200 if WHOLE else 300)
async def test_no_call_gets_an_error_of_ours_or_an_answer_that_is_not_declared(
    platform: Platform, environment: dict[str, str], tmp_path: Path
) -> None:
    phases = "coverage,fuzzing" if WHOLE else "fuzzing"
    counts = ("--phases", phases, "--max-examples", str(EXAMPLES))
    await _told(platform, environment, tmp_path, *counts, "--checks", ",".join(CHECKS))


@pytest.mark.timeout(1800 if WHOLE else 300)
async def test_nor_does_any_call_of_a_sequence_that_follows_the_links(
    platform: Platform, client: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    counts = ("--phases", "stateful", "--max-examples", str(SEQUENCES))
    told = await _told(platform, environment, tmp_path, *counts, "--checks", ",".join(SEQUENCE_CHECKS))
    followed = re.search(r"API Links: +(\d+) covered", told)
    assert followed, told
    assert int(followed[1]) >= LINKS, told
    lists = [await client.get(f"/api/{kind}", limit=500) for kind in ("connectors", "webhooks", "pipelines")]
    assert any(one["name"].startswith("made-") for page in lists for one in page["items"]), told


async def test_whatever_begins_a_sequence_has_a_right_body_to_begin_with(client: Client) -> None:
    paths = (await client.get("/api/openapi.json"))["paths"]
    makes = {path: item["post"] for path, item in paths.items() if "post" in item}
    begins = {path for path, one in makes.items() if any("links" in answer for answer in one["responses"].values())}
    assert {path for path in begins if makes[path].get("requestBody", {}).get("required")} <= BODIES.keys()


@pytest.mark.usefixtures("there")
async def test_what_a_sequence_begins_with_is_right(client: Client) -> None:
    for path in (path for path in BODIES if "{" not in path):
        for number, body in enumerate(BODIES[path]):
            named = {"name": f"right-{number}", "email": "right@example.org"}
            await client.post(path, {**body, **{name: value for name, value in named.items() if name in body}})
    below = {"workspaces/right-0/members": "workspace", "pipelines/right-0/runs": "pipeline"}
    below["pipelines/right-1/backfills"] = "pipeline"
    for path, parameter in below.items():
        start, _, end = path.split("/")
        await client.post(f"/api/{path}", BODIES[f"/api/{start}/{{{parameter}}}/{end}"][0])


async def _delete_unused(client: Client, connector: str) -> None:
    """Who owns the connector hears a little later that the pipeline is gone."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.delete(f"/api/connectors/{connector}")
                return
            except ApiError as refused:
                if refused.code != "connector-in-use":
                    raise


@pytest.mark.parametrize("taken", ["renamed", "deleted", "another"])
async def test_a_pipeline_is_put_back_whatever_became_of_its_connector(
    client: Client, environment: dict[str, str], taken: str
) -> None:
    """What a call that was made up may do to it is no fault of the platform's."""
    used = (await client.get("/api/pipelines/there"))["sources"]["s"]["connector"]
    await client.delete("/api/pipelines/there")
    if taken == "deleted":
        await _delete_unused(client, used)
    else:
        await client.patch(f"/api/connectors/{used}", {"name": f"{used}-{taken}"})
    if taken == "another":
        other = {"name": used, "type": "http", "config": {"base_url": "https://example.org", "streams": {}}}
        await client.post("/api/connectors", other)
    words = [sys.executable, "-c", "import hooks; hooks.put_back('/api/pipelines'); hooks.put_back('/api/pipelines')"]
    done = await asyncio.to_thread(subprocess.run, words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (await client.get("/api/pipelines/there"))["status"] == "active"


async def test_the_administrator_can_still_do_everything(client: Client) -> None:
    """Nothing that was made up has locked anybody out."""
    me = await client.get("/api/auth/me")
    assert "platform:admin" in me["permissions"] or "identity:admin" in me["permissions"]
    assert (await client.get("/api/status"))["status"] == "ok"
