"""What the connectors' tests share: a context that may reach this machine, and a server on it."""

from pathlib import Path

import pytest

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


@pytest.fixture
def bucket(s3: S3Endpoint, context: Context) -> BucketRig:
    return BucketRig(s3, context)
