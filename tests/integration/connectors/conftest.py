"""What the connectors' tests share: a context that may reach this machine, and a server on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.egress import Egress, EgressPolicy
from tests.buckets import S3Endpoint
from tests.integration.connectors.bucket_rig import BucketRig


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Private addresses are allowed, and files below the test's own folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Context(Egress(EgressPolicy(private=True)), folder=scratch, allowed_roots=(tmp_path,))


@asynccontextmanager
async def served(application: web.Application) -> AsyncIterator[str]:
    """The address at which it answers, as long as one is inside."""
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


@pytest.fixture
def bucket(s3: S3Endpoint, context: Context) -> BucketRig:
    return BucketRig(s3, context)
