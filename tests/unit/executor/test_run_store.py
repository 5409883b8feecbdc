"""Which run store the settings name; what is wrong with them is told by its variable and never shows a secret."""

import json
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.run_store.local import LocalRunStore
from dataaggregator.settings import Settings, SettingsError
from dataaggregator_connectors.files.run_bucket import RunBucket
from services.executor.run_store import run_store_of

KEY = {"access_key_id": "reader", "secret_access_key": "hunter2"}


def named(credentials: dict[str, Any] | None = None, **more: str) -> Settings:
    given = {} if credentials is None else {"RUN_STORE_CREDENTIALS": json.dumps(credentials)}
    return Settings.load({**given, **more})


def test_without_the_setting_there_is_none() -> None:
    assert run_store_of(named()) is None


async def test_a_folder_is_named_by_its_url(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    store = run_store_of(named(RUN_STORE=f"file://{tmp_path}/with%20space"))
    assert isinstance(store, LocalRunStore)
    await store.ping()


@pytest.mark.parametrize(
    ("credentials", "more"),
    [
        (KEY, {"RUN_STORE": "s3://bucket/prefix", "RUN_STORE_REGION": "eu-central-1"}),
        (KEY | {"session_token": "hunter2"}, {"RUN_STORE": "s3://b", "RUN_STORE_ENDPOINT": "https://store:9000"}),
        ({"account": "ours", "account_key": "aHVudGVyMg=="}, {"RUN_STORE": "az://container/prefix"}),
        (None, {"RUN_STORE": "gs://bucket"}),
    ],
)
def test_a_bucket_is_named_by_its_url(credentials: dict[str, Any] | None, more: dict[str, str]) -> None:
    assert isinstance(run_store_of(named(credentials, **more)), RunBucket)


@pytest.mark.parametrize(
    ("credentials", "more", "told"),
    [
        ({"account_key": "hunter2"}, {"RUN_STORE": "s3://b"}, "account_key are not of a root that begins with s3:"),
        ({"access_key_id": "hunter2"}, {"RUN_STORE": "s3://b"}, "belong together"),
        ({"secret_key": "hunter2"}, {"RUN_STORE": "s3://b"}, "credentials.secret_key"),
        ({"service_account_key": {"private_key": "hunter2"}}, {"RUN_STORE": "gs://b"}, "RUN_STORE_CREDENTIALS"),
        (None, {"RUN_STORE": "s3://b", "RUN_STORE_SSLROOTCERT": "/not/there"}, "RUN_STORE_SSLROOTCERT=/not/there"),
        (None, {"RUN_STORE": "gs://b", "RUN_STORE_ENDPOINT": "https://store:9000"}, "stands with s3 and az only"),
    ],
)
def test_what_is_wrong_with_it_is_told(credentials: dict[str, Any] | None, more: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        run_store_of(named(credentials, **more))
    assert str(caught.value).startswith("RUN_STORE")
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
