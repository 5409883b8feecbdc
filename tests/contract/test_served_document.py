"""The served document is true: whatever Schemathesis makes up, no server error and no answer it does not declare."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.client import Client
from tests.e2e.platform import Platform

PROGRAM = Path(sys.executable).with_name("schemathesis")
HOOKS = Path(__file__).parent / "served"
WHOLE = os.environ.get("CONTRACT") == "all"
EXAMPLES = 100 if WHOLE else 2
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

LEFT_OUT = {
    "/api/auth/logout": "it would end the login that all other calls use",
    "/api/events": "a stream without an end; tests/e2e/test_runs.py reads it",
    "/api/runs/{run}/events": "a stream that ends with its run; tests/e2e/test_runs.py reads it",
}

STEPS = [{"filter": "id > 0"}]
MADE: dict[str, Any] = {
    "/api/transformations": {"name": "there", "steps": STEPS},
    "/api/pipelines": {
        "name": "there",
        "sources": {"s": {"connector": "used", "stream": "there.csv"}},
        "destinations": [{"connector": "used", "stream": "out.ndjson", "write": "replace"}],
    },
    "/api/users": {"email": "there@example.org", "password": "correct horse battery", "role": "viewer"},
}


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
    for name in ("there", "used"):
        body = {"name": name, "type": "files", "config": {"root": folder.as_uri()}}
        MADE.setdefault("/api/connectors", body)
        await client.post("/api/connectors", body)
    for path, body in MADE.items():
        if path != "/api/connectors":
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


@pytest.mark.timeout(7200 if WHOLE else 300)
async def test_no_call_gets_an_error_of_ours_or_an_answer_that_is_not_declared(
    platform: Platform, client: Client, there: dict[str, str], tmp_path: Path
) -> None:
    token = client._token
    assert token is not None
    administrator = await client.get("/api/auth/me")
    words = [
        *(
            "--config-file",
            str(HOOKS / "schemathesis.toml"),
            "run",
            f"{platform.url}/api/openapi.json",
            "--header",
            f"Authorization: Bearer {token}",
        ),
        *("--phases", "coverage,fuzzing" if WHOLE else "fuzzing", "--max-examples", str(EXAMPLES)),
        # One at a time: Python 3.11 loses count of its own parser's depth where several threads parse.
        *("--checks", ",".join(CHECKS), "--continue-on-failure", "--workers", "1", "--no-shrink"),
        *("--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"),
    ]
    if not WHOLE:  # the same calls at every run: what is new is looked for by `make test-contract`
        words += ["--seed", "7", "--generation-database", "none"]
    for path in LEFT_OUT:
        words += ["--exclude-path", path]
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "PYTHONPATH": str(HOOKS),
        "SCHEMATHESIS_HOOKS": "hooks",
        "CONTRACT_URL": platform.url,
        "CONTRACT_TOKEN": token,
        "CONTRACT_THERE": json.dumps(there),
        "CONTRACT_MADE": json.dumps(MADE),
        "CONTRACT_ADMINISTRATOR": json.dumps([administrator["id"], administrator["email"].lower()]),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [str(PROGRAM), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout.replace(token, "…")[-12000:]
    bugs = [line for line in platform.log.read_text().splitlines() if '"http_bug"' in line]
    assert bugs == [], [*bugs[:3], told]
    assert done.returncode == 0, told + done.stderr[-2000:]


async def test_the_administrator_can_still_do_everything(client: Client) -> None:
    """Nothing that was made up has locked anybody out."""
    me = await client.get("/api/auth/me")
    assert "platform:admin" in me["permissions"] or "identity:admin" in me["permissions"]
    assert (await client.get("/api/status"))["status"] == "ok"
