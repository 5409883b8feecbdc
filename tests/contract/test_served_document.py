"""The served document is true: whatever Schemathesis makes up, no server error and no answer it does not declare."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from dataaggregator.client import ApiError, Client
from tests.contract.made_up import CHECKS, WHOLE, told
from tests.e2e.platform import Platform

EXAMPLES = 100 if WHOLE else 2
AGAIN = "import hooks; hooks.put_back('/api/pipelines'); hooks.put_back('/api/pipelines')"


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
    words = [sys.executable, "-c", AGAIN]
    done = await asyncio.to_thread(subprocess.run, words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (await client.get("/api/pipelines/there"))["status"] == "active"


@pytest.mark.timeout(7200 if WHOLE else 300)
async def test_no_call_gets_an_error_of_ours_or_an_answer_that_is_not_declared(
    platform: Platform, environment: dict[str, str], tmp_path: Path
) -> None:
    phases = "coverage,fuzzing" if WHOLE else "fuzzing"
    counts = ("--phases", phases, "--max-examples", str(EXAMPLES))
    await told(platform, environment, tmp_path, *counts, "--checks", ",".join(CHECKS))


async def test_the_administrator_can_still_do_everything(client: Client) -> None:
    """Nothing that was made up has locked anybody out."""
    me = await client.get("/api/auth/me")
    assert "platform:admin" in me["permissions"] or "identity:admin" in me["permissions"]
    assert (await client.get("/api/status"))["status"] == "ok"
