"""files, gs://: what is asked of Google's store, by a server of ours that speaks as much of its XML interface."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from aiohttp import web

from dataaggregator_connectors.files.buckets import RETRY, bucket_of
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.objects import Bucket
from tests.certificates import make_certificates

CONTENT = b"id\n1\n"
TOLD = {"ETag": '"1"', "Last-Modified": "Mon, 30 Nov 2026 01:00:00 GMT"}
LISTED = (
    "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-11-30T01:00:00Z</LastModified><ETag>1</ETag></Contents>"
)


class Google:
    """Objects by `/bucket/key`, each key as it is."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.app = web.Application()
        self.app.router.add_put("/{path:.*}", self.put)
        self.app.router.add_get("/{path:.*}", self.get)
        self.app.router.add_delete("/{path:.*}", self.delete)

    async def put(self, asked: web.Request) -> web.Response:
        self.objects[asked.path] = await asked.read()
        return web.Response(headers=TOLD)

    async def get(self, asked: web.Request) -> web.Response:
        if asked.query.get("list-type") == "2":
            below = f"{asked.path}/{asked.query['prefix']}"
            found = {key: data for key, data in self.objects.items() if key.startswith(below)}
            listed = (LISTED.format(escape(key.split("/", 2)[2]), len(data)) for key, data in found.items())
            return web.Response(text=f"<ListBucketResult>{''.join(listed)}</ListBucketResult>")
        if asked.path not in self.objects:
            return web.Response(status=404)
        return web.Response(body=self.objects[asked.path], headers=TOLD)

    async def delete(self, asked: web.Request) -> web.Response:
        del self.objects[asked.path]
        return web.Response(status=204)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[tuple[Google, Bucket]]:
    """The key of a service account may say at which address the store is, and that nobody is asked for a token."""
    google, certificates = Google(), make_certificates(tmp_path / "certificates")
    runner = web.AppRunner(google.app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.context())
    await site.start()
    address = f"https://localhost:{runner.addresses[0][1]}"
    key = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True, "gcs_base_url": address}
    given: dict[str, Any] = {"credentials": {"service_account_key": json.dumps(key)}}
    config = FilesConfig.model_validate({"root": "gs://orders/raw/a%20b"} | given)
    yield google, bucket_of(config, {"root_certificate": certificates.authority.read_text()}, RETRY)
    await runner.cleanup()


async def test_what_is_written_lies_in_the_bucket_below_the_prefix(store: tuple[Google, Bucket]) -> None:
    google, bucket = store
    await bucket.put_async("day=1/a.csv", CONTENT)
    assert google.objects == {"/orders/raw/a b/day=1/a.csv": CONTENT}
    assert bytes(await (await bucket.get_async("day=1/a.csv")).bytes_async()) == CONTENT
    await bucket.delete_async("day=1/a.csv")
    assert google.objects == {}


async def test_what_is_found_is_named_from_the_prefix_on(store: tuple[Google, Bucket]) -> None:
    google, bucket = store
    google.objects = {"/orders/raw/a b/x/a.csv": CONTENT, "/orders/raw/b.csv": CONTENT, "/other/raw/a b/x/c": CONTENT}
    assert [(one["path"], one["size"]) for one in await bucket.list().collect_async()] == [("x/a.csv", len(CONTENT))]
    with pytest.raises(FileNotFoundError):
        await bucket.get_async("b.csv")
