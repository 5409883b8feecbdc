"""Calls that Schemathesis makes up on the served document: what is there for them, and how they are made."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.platform import Platform

PROGRAM = Path(sys.executable).with_name("schemathesis")
HOOKS = Path(__file__).parent / "served"
WHOLE = os.environ.get("CONTRACT") == "all"
SETTINGS = {
    "RATE_LIMIT_API": "1000000/60",
    "RATE_LIMIT_LOGIN": "100000/60",
    "RATE_LIMIT_RUN": "100000/60",
    # The administrator's token is taken once and must outlive the calls of a slow machine.
    "ACCESS_TOKEN_EXPIRE_MINUTES": "240",
}

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


def bodies(folder: Path) -> dict[str, Any]:
    """Path → what is there, and is put back when a call has taken it away. Its rows are in this folder."""
    return {
        "/api/connectors": {"name": "there", "type": "files", "config": {"root": folder.as_uri()}},
        "/api/transformations": {"name": "there", "steps": [{"filter": "id > 0"}]},
        "/api/pipelines": {
            "name": "there",
            "sources": {"s": {"connector": "used", "stream": "there.csv"}},
            "destinations": [{"connector": "used", "stream": "out.ndjson", "write": "replace"}],
        },
        "/api/users": {"email": "there@example.org", "password": "correct horse battery", "role": "viewer"},
    }


async def told(platform: Platform, environment: Mapping[str, str], folder: Path, *words: str) -> str:
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
    said = done.stdout.replace(token, "…")[-12000:]
    bugs = [line for line in platform.log.read_text().splitlines() if '"http_bug"' in line]
    assert bugs == [], [*bugs[:3], said]
    assert done.returncode == 0, said + done.stderr[-2000:]
    return said
