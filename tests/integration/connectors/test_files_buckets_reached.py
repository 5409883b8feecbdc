"""How a bucket is reached: by whom, over which addresses, with what, and what is told when it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from dataaggregator.connector.context import Context
from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator.connector.spec import secret_paths
from dataaggregator.errors import Invalid, Transient
from dataaggregator_connectors.files import CONNECTOR
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.source import FilesSource
from tests.buckets import S3Endpoint
from tests.certificates import Certificates, make_certificates
from tests.integration.connectors.bucket_rig import BucketRig, finished


@pytest.mark.parametrize("endpoint", ["", "http://169.254.169.254", "http://[::ffff:169.254.169.254]"])
async def test_a_store_at_an_address_that_may_not_be_reached_is_refused(
    bucket: BucketRig, tmp_path: Path, endpoint: str
) -> None:
    """Loopback by the policy of a shared installation; addresses of metadata by every policy."""
    policy = EgressPolicy(private=bool(endpoint))
    context = Context(Egress(policy), folder=tmp_path / "scratch", allowed_roots=())
    config = bucket.files.model_copy(update={"endpoint": endpoint or bucket.files.endpoint})
    source = FilesSource(config, context)
    with pytest.raises(Invalid) as caught:
        await source.discover()
    assert caught.value.code == "egress-denied"
    await source.close()


class Watched(Egress):
    """Notes whom somebody wants to reach."""

    def __init__(self) -> None:
        super().__init__(EgressPolicy(private=True))
        self.asked: set[str] = set()

    async def resolve_all(self, host: str, port: int) -> Any:
        self.asked.add(host)
        return await super().resolve_all(host, port)


async def test_without_credentials_nobody_is_asked_for_any(bucket: BucketRig, s3: S3Endpoint, tmp_path: Path) -> None:
    root = bucket.files.root.removeprefix("s3://")
    s3.make_public(f"{root}/a.csv", b"id\n1\n")
    egress = Watched()
    bucket.context = Context(egress, folder=tmp_path / "scratch")
    bucket.files = FilesConfig.model_validate({"root": bucket.files.root, "endpoint": bucket.files.endpoint})
    assert await bucket.read("a.csv") == [1]
    assert egress.asked == {"127.0.0.1"}


async def test_a_bucket_that_is_not_there_is_named(bucket: BucketRig) -> None:
    source = FilesSource(bucket.files.model_copy(update={"root": "s3://nowhere-at-all"}), bucket.context)
    with pytest.raises(Invalid) as caught:
        await source.discover()
    assert caught.value.code == "stream-missing"
    assert S3Endpoint.key["secret_access_key"] not in caught.value.detail
    await source.close()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"root": "ftp://host/a"}, "root should be"),
        ({"root": "s3://bucket/a?x=1"}, "root should have no"),
        ({"root": "https://user:pass@host/a"}, "root should have no"),
        ({"root": "s3://bucket", "credentials": {"access_key_id": "a"}}, "belong together"),
        ({"root": "s3://bucket", "credentials": {"account_key": "a"}}, "account_key are not of a root"),
        ({"root": "az://container"}, "az wants account"),
        ({"root": "file:///a", "credentials": S3Endpoint.key}, "are not of a root that begins with file:"),
        ({"root": "gs://bucket", "endpoint": "https://a"}, "endpoint should be"),
        ({"root": "s3://bucket", "endpoint": "minio:9000"}, "endpoint should be"),
        *(
            ({"root": "s3://bucket", "endpoint": f"http://{address}"}, "endpoint should be")
            for address in (
                "\uff11.2.3.4",
                "\u00e4.example",
                "a b",
                'a"b',
                "a{b}",
                "a%zz",
                ":1",
                "a:99999",
                "a:x",
                "",
                "a/b c",
            )
        ),
        *(({"root": f"{scheme}://b c"}, "bucket of letters") for scheme in ("s3", "gs")),
        ({"root": "s3://bucket", "region": "a\nb"}, "region stands with s3"),
        (
            {"root": "s3://b", "credentials": {"access_key_id": "a\n", "secret_access_key": "b"}},
            "access_key_id should have no",
        ),
        ({"root": "az://c", "credentials": {"account": "a\n"}}, "account should have no"),
        ({"root": "s3://bucket", "sslrootcert": "a"}, "sslrootcert stands with endpoint"),
        ({"root": "gs://bucket", "region": "a"}, "region stands with s3"),
    ],
)
def test_a_wrong_configuration_is_named(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        FilesConfig.model_validate(config)
    assert S3Endpoint.key["secret_access_key"] not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"root": "gs://bucket", "credentials": {"service_account_key": "no-json"}},
        {"root": "az://container", "credentials": {"account": "a", "account_key": "no base64!"}},
        {"root": "s3://bucket", "endpoint": "https://localhost", "sslrootcert": "no certificate"},
    ],
)
async def test_credentials_of_another_form_are_refused_and_not_shown(config: dict[str, Any], context: Context) -> None:
    checks = [check async for check in CONNECTOR.check(FilesConfig.model_validate(config), context)]
    assert [(check.name, check.ok, check.code) for check in checks] == [("allowed", False, "store-denied")]
    assert not [given for given in ("no-json", "no base64!", "no certificate") if given in checks[0].detail]


def test_every_secret_is_known_as_one() -> None:
    assert set(secret_paths(CONNECTOR)) == {
        f"credentials.{name}"
        for name in ("secret_access_key", "session_token", "account_key", "sas_token", "service_account_key")
    }


@asynccontextmanager
async def over_tls(address: str, certificates: Certificates) -> AsyncIterator[str]:
    """The store behind a front that speaks TLS as `localhost`."""
    behind = urlsplit(address)

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection(behind.hostname, behind.port)
        ways = [asyncio.ensure_future(_carry(reader, to_store)), asyncio.ensure_future(_carry(from_store, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        to_store.close()
        writer.close()

    async with await asyncio.start_server(passed_on, "127.0.0.1", 0, ssl=certificates.context()) as front:
        yield f"https://localhost:{front.sockets[0].getsockname()[1]}"


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(65536):
        writer.write(block)
        await writer.drain()


async def test_a_store_is_reached_over_tls_and_its_certificate_looked_at(bucket: BucketRig, tmp_path: Path) -> None:
    assert bucket.files.endpoint is not None
    certificates = make_certificates(tmp_path / "certificates")
    trusted = certificates.authority.read_text()
    async with over_tls(bucket.files.endpoint, certificates) as endpoint:
        bucket.files = bucket.files.model_copy(update={"endpoint": endpoint, "sslrootcert": trusted})
        await finished(await bucket.begun())
        assert await bucket.read(bucket.target) == [1, 2]
        bucket.files = bucket.files.model_copy(update={"sslrootcert": None})
        with pytest.raises(Transient, match="error sending request"):
            await bucket.read(bucket.target)
