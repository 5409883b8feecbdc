"""The run store in a bucket of a real endpoint keeps the port's promises, with no credentials but its own."""

import io
import logging

import pytest

from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from dataaggregator.run_store import RunStore
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.run_bucket import RunBucket
from tests.buckets import Endpoint
from tests.integration.connectors.test_files_buckets import STORES
from tests.unit.kit.run_store_conformance import RunStoreConformance


def made(endpoint: Endpoint, bucket: str) -> RunBucket:
    return RunBucket(FilesConfig.model_validate(endpoint.config(bucket, "below/here")))


class TestRunBucket(RunStoreConformance):
    @pytest.fixture(params=STORES, autouse=True)
    def endpoint(self, request: pytest.FixtureRequest) -> None:
        self._endpoint: Endpoint = request.getfixturevalue(request.param)

    def make(self) -> RunStore:
        bucket = f"b{new_id().hex}"
        self._endpoint.make_bucket(bucket)
        return made(self._endpoint, bucket)

    def make_away(self) -> RunStore:
        return made(self._endpoint, f"b{new_id().hex}")


async def test_what_is_told_of_a_store_that_is_away_names_no_address(
    s3: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may see a run may read it; the address is in the operator's log, and the key nowhere."""
    config = s3.config("anything", "below") | {"endpoint": "http://127.0.0.1:9"}
    with caplog.at_level(logging.WARNING), pytest.raises(Transient) as caught:
        await RunBucket(FilesConfig.model_validate(config)).put("a/1", io.BytesIO(b"rows"))
    assert "127.0.0.1" not in caught.value.detail
    (logged,) = (record for record in caplog.records if record.getMessage() == "run_store_failed")
    assert "127.0.0.1:9" in str(vars(logged))
    assert config["credentials"]["secret_access_key"] not in str(vars(logged)) + repr(caught.value)


async def test_prefixes_keep_the_stores_of_two_installations_apart(s3: Endpoint) -> None:
    bucket = f"b{new_id().hex}"
    s3.make_bucket(bucket)
    one, other = (RunBucket(FilesConfig.model_validate(s3.config(bucket, name))) for name in ("one", "one-more"))
    await one.put("a/1", io.BytesIO(b"rows"))
    assert list(await other.folders()) == []
    await other.remove("a")
    assert list(await one.folders()) == ["a"]
