"""The served document is true of several calls: sequences along its links, each begun with what can be gone on with."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from dataaggregator.client import Client
from tests.contract.made_up import CHECKS, WHOLE, told
from tests.e2e.platform import Platform
from tests.sql import execute

SEQUENCES, LINKS = (40, 80) if WHOLE else (2, 5)
# Schemathesis ends a round after some fifty, where a repetition goes otherwise because ids are new.
ROUNDS = 3 if WHOLE else 1
SEQUENCE_CHECKS = (*CHECKS, "use_after_removal", "ensure_resource_availability")

BOOK = {
    "name": "there",
    "sources": {"s": {"connector": "book", "read": "incremental", "stream": "public.there", "cursor_field": "at"}},
    "destinations": [{"connector": "book", "stream": "public.out", "write": "merge", "key": ["id"]}],
}


@pytest.fixture(scope="module")
async def book(platform: Platform, client: Client) -> None:
    """A connector to a database of its own, which the platform's server has room for."""
    url = urlunsplit(urlsplit(platform.database_url)._replace(path="/book"))
    await execute(platform.database_url, "CREATE DATABASE book")
    await execute(url, "CREATE TABLE there (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    await execute(url, "INSERT INTO there VALUES (1, '2026-01-01T00:30:00Z'), (2, '2026-01-01T01:30:00Z')")
    await client.post("/api/connectors", {"name": "book", "type": "postgres", "config": {"url": url}})


@pytest.fixture(scope="module")
def bodies(book: None, made: dict[str, Any]) -> dict[str, list[Any]]:
    """Path → what a sequence of calls can begin with: hardly ever is a right body made up. One pipeline reads a file,
    the other a table by a cursor, so that its intervals can be loaded again."""
    return {
        **{path: [body] for path, body in made.items()},
        "/api/pipelines": [made["/api/pipelines"], BOOK],
        "/api/workspaces": [{"name": "there"}],
        "/api/workspaces/{workspace}/members": [{"user": "there@example.org", "role": "viewer"}],
        "/api/api-keys": [{"name": "there", "scopes": ["runs:read"]}],
        "/api/webhooks": [{"name": "there", "url": "https://example.org/", "types": ["pipeline.late.v1"]}],
        "/api/pipelines/{pipeline}/runs": [{}],
        "/api/pipelines/{pipeline}/backfills": [
            {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T02:00:00Z", "interval": "1h", "overwrite": True},
        ],
    }


async def test_whatever_begins_a_sequence_has_a_right_body_to_begin_with(
    client: Client, bodies: dict[str, list[Any]]
) -> None:
    paths = (await client.get("/api/openapi.json"))["paths"]
    makes = {path: item["post"] for path, item in paths.items() if "post" in item}
    begins = {path for path, one in makes.items() if any("links" in answer for answer in one["responses"].values())}
    assert {path for path in begins if makes[path].get("requestBody", {}).get("required")} <= bodies.keys()


@pytest.mark.usefixtures("there")
async def test_what_a_sequence_begins_with_is_right(client: Client, bodies: dict[str, list[Any]]) -> None:
    for path in (path for path in bodies if "{" not in path):
        for number, body in enumerate(bodies[path]):
            named = {"name": f"right-{number}", "email": "right@example.org"}
            await client.post(path, {**body, **{name: value for name, value in named.items() if name in body}})
    below = {"workspaces/right-0/members": "workspace", "pipelines/right-0/runs": "pipeline"}
    below["pipelines/right-1/backfills"] = "pipeline"
    for path, parameter in below.items():
        start, _, end = path.split("/")
        await client.post(f"/api/{path}", bodies[f"/api/{start}/{{{parameter}}}/{end}"][0])


@pytest.mark.timeout(3600 if WHOLE else 300)
async def test_no_call_of_a_sequence_gets_an_error_of_ours_or_an_answer_that_is_not_declared(
    platform: Platform, client: Client, environment: dict[str, str], bodies: dict[str, list[Any]], tmp_path: Path
) -> None:
    counts = ("--phases", "stateful", "--max-examples", str(SEQUENCES), "--checks", ",".join(SEQUENCE_CHECKS))
    begun = {**environment, "CONTRACT_BODIES": json.dumps(bodies)}
    for _ in range(ROUNDS):
        said = await told(platform, begun, tmp_path, *counts)
        followed = re.search(r"API Links: +(\d+) covered", said)
        assert followed, said
        assert int(followed[1]) >= LINKS, said
    lists = [await client.get(f"/api/{kind}", limit=500) for kind in ("connectors", "webhooks", "pipelines")]
    assert any(one["name"].startswith("made-") for page in lists for one in page["items"]), said
