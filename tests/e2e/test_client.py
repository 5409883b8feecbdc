"""A run over the Python client: its ledger, rejected rows and logs; cancelled, retried, and asked for wrongly."""

import asyncio
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dataaggregator.client import TERMINAL, ApiError, Client
from dataaggregator.ids import new_id

CANCELLED_WITHIN_SECONDS = 10.0


async def make(client: Client, name: str, config: dict[str, Any], warehouse: str, source: dict[str, str]) -> None:
    """A pipeline of its own connectors: known names, checked amounts, appended to a table of its name."""
    kind = "files" if "root" in config else "postgres"
    await client.post("/api/connectors", {"name": f"{name}-in", "type": kind, "config": config})
    await client.post("/api/connectors", {"name": f"{name}-out", "type": "postgres", "config": {"url": warehouse}})
    steps = [
        {"name": "known", "filter": "name <> 'nobody'"},
        {"name": "checks", "validate": [{"rule": "positive", "check": "amount > 0", "on_fail": "reject"}]},
    ]
    pipeline = {
        "name": name,
        "sources": {"rows": {"connector": f"{name}-in", **source}},
        "transformations": [{"name": "clean", "steps": steps}],
        "destinations": [{"connector": f"{name}-out", "stream": f"public.{name}", "write": "append"}],
    }
    await client.post("/api/pipelines", pipeline)


async def ended(client: Client, run_id: str, within_seconds: float = 60.0) -> dict[str, Any]:
    deadline = time.monotonic() + within_seconds
    while True:
        run: dict[str, Any] = await client.get(f"/api/runs/{run_id}")
        if run["status"] in TERMINAL:
            return run
        assert time.monotonic() < deadline, run
        await asyncio.sleep(0.1)


async def test_every_row_is_delivered_filtered_or_rejected_and_told(
    client: Client, empty_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("name,amount\nada,1\nnobody,2\nbob,-3\ncleo,4\n")
    config = {"root": f"file://{tmp_path}", "format": "csv"}
    await make(client, "told", config, empty_database_url, {"stream": "rows.csv"})
    started = await client.start_run("told")
    run = await ended(client, started["id"])
    assert run["status"] == "succeeded", run["error"]
    assert (run["rows_read"], run["rows_written"], run["rows_filtered"], run["rows_rejected"]) == (4, 2, 1, 1)
    ledger = await client.get(f"/api/runs/{run['id']}/ledger")
    assert ledger["balanced"] is True
    assert ledger["receipts"][0]["verified"] is True
    rejected = [row async for row in client.pages(f"/api/runs/{run['id']}/rejected")]
    assert [(row["rule"], row["row"]["name"]) for row in rejected] == [("positive", "bob")]
    lines = [line async for line in client.pages(f"/api/runs/{run['id']}/logs")]
    assert lines[0]["message"] == "Attempt 1 started."
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT array_agg(name ORDER BY name) FROM public.told") == ["ada", "cleo"]
    finally:
        await connection.close()


async def test_a_running_run_is_cancelled_within_ten_seconds_and_retried_as_a_new_one(
    client: Client, empty_database_url: str
) -> None:
    slow = "SELECT 'ada'::text AS name, i::bigint AS amount FROM generate_series(1, 600) i, pg_sleep(0.1 + i * 0)"
    await make(client, "slow", {"url": empty_database_url}, empty_database_url, {"query": slow})
    started = await client.start_run("slow")
    deadline = time.monotonic() + 30
    while (await client.get(f"/api/runs/{started['id']}"))["status"] == "queued":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await client.post(f"/api/runs/{started['id']}/cancel")
    run = await ended(client, started["id"], CANCELLED_WITHIN_SECONDS)
    assert run["status"] == "cancelled"
    again = await client.post(f"/api/runs/{run['id']}/retry")
    assert again["parent_run_id"] == run["id"]
    await client.post(f"/api/runs/{again['id']}/cancel")
    assert (await ended(client, again["id"], CANCELLED_WITHIN_SECONDS))["status"] == "cancelled"


@pytest.mark.parametrize("what", ["", "/ledger", "/rejected", "/logs"])
async def test_a_run_that_is_not_there_is_not_found(client: Client, what: str) -> None:
    with pytest.raises(ApiError) as raised:
        await client.get(f"/api/runs/{new_id()}{what}")
    assert raised.value.status == 404
