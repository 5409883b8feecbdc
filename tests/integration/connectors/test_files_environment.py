"""What the environment of the process says of stores is not what a connector is: neither keys nor addresses of it."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator.errors import Invalid, PlatformError
from dataaggregator_connectors.files import buckets
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.run_bucket import RunBucket
from dataaggregator_connectors.files.source import FilesSource
from tests.serving import served

CANARY = "canary-of-the-installation"
THEIRS = {"s3": "s3.us-east-1.amazonaws.com", "az": "acc.blob.core.windows.net", "gs": "storage.googleapis.com"}
"""Where a store of that kind is, unless somebody says otherwise."""


class Store:
    """Answers that nothing is there, and keeps what it was asked, with the headers."""

    def __init__(self) -> None:
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._answer)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.address = ""

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.headers)))
        return web.Response(status=404)


@asynccontextmanager
async def running() -> AsyncIterator[Store]:
    made = Store()
    async with served(made.app) as base:
        made.address = base.rstrip("/")
        yield made


class Closed(Egress):
    """Lets nobody out, and notes where to."""

    def __init__(self) -> None:
        super().__init__(EgressPolicy(private=True))
        self.asked: set[str] = set()

    async def resolve_all(self, host: str, port: int) -> Any:
        self.asked.add(host)
        raise Invalid("egress-denied", f"{host}:{port} is not to be reached.")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with running() as server:
        yield server


@pytest.fixture
async def hostile(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """The store that every variable points to, with the keys of the installation."""
    async with running() as server:
        account = {"gcs_base_url": server.address, "disable_oauth": True, "client_email": "", "private_key": CANARY}
        given: dict[str, str] = {
            **dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT"), server.address),
            **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), CANARY),
            **dict.fromkeys(("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP"), "true"),
            **dict.fromkeys(("AWS_SKIP_SIGNATURE", "AZURE_SKIP_SIGNATURE", "GOOGLE_SKIP_SIGNATURE"), "false"),
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"), server.address),
            "AZURE_STORAGE_ACCOUNT_NAME": "canary",
            "AZURE_STORAGE_ACCOUNT_KEY": "Y2FuYXJ5LW9mLXRoZS1pbnN0YWxsYXRpb24=",
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account | {"private_key_id": ""}),
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        yield server
        assert server.asked == [], "somebody went where the environment points to"
        assert {name: os.environ.get(name) for name in given} == given, "the environment is as it was"


def config(scheme: str, endpoint: str | None = None) -> FilesConfig:
    credentials = {"account": "acc"} if scheme == "az" else {}
    given: dict[str, Any] = {"root": f"{scheme}://bucket/below", "credentials": credentials}
    return FilesConfig.model_validate(given if endpoint is None else given | {"endpoint": endpoint})


@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
async def test_a_connector_without_an_endpoint_asks_the_store_of_its_kind(
    hostile: Store, tmp_path: Path, scheme: str
) -> None:
    egress = Closed()
    source = FilesSource(config(scheme), Context(egress, folder=tmp_path))
    with pytest.raises(Invalid):
        await source.discover()
    assert egress.asked == {THEIRS[scheme]}
    await source.close()


@pytest.mark.parametrize("scheme", ["s3", "az"])
async def test_a_connector_without_credentials_shows_none(
    hostile: Store, store: Store, tmp_path: Path, scheme: str
) -> None:
    source = FilesSource(config(scheme, store.address), Context(Egress(EgressPolicy(private=True)), folder=tmp_path))
    with pytest.raises(PlatformError):
        await source.discover()
    await source.close()
    assert store.asked
    for path, headers in store.asked:
        assert CANARY not in f"{path} {headers}"
        assert not {name.lower() for name in headers} & {"authorization", "x-amz-security-token"}


async def test_the_run_store_is_where_the_settings_say(hostile: Store, store: Store) -> None:
    with pytest.raises(PlatformError):
        await RunBucket(config("s3", store.address)).ping()
    assert {urlsplit(path).path for path, _ in store.asked} == {"/bucket"}
    assert all("authorization" not in {name.lower() for name in headers} for _, headers in store.asked)


def test_what_is_hidden_is_what_the_library_reads() -> None:
    hidden = ["AWS_REGION", "aws_endpoint_url_s3", "AZURE_MSI_ENDPOINT", "GOOGLE_APPLICATION_CREDENTIALS", "no_proxy"]
    assert all(buckets.OURS.fullmatch(name) for name in hidden)
    assert not any(buckets.OURS.fullmatch(name) for name in ("PATH", "DATABASE_URL", "MY_PROXY", "HTTP_PORT"))
