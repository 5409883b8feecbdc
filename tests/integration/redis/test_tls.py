"""`rediss://`: Redis is reached over TLS, and only if its certificate comes from an authority that is trusted."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dataaggregator.redis_link import LinkDownError, RedisLink
from deploy.local.process import free_ports
from deploy.local.redis import PrivateRedis
from tests.certificates import Certificates, make_certificates


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "own")


@pytest.fixture
async def secured(redis_server: PrivateRedis, redis_url: str, certificates: Certificates) -> AsyncIterator[str]:
    """The worker's Redis, which now listens on a second port as well, and there with TLS only."""
    plain = RedisLink(redis_url)
    await plain.open()
    port = free_ports(1)[0]
    files = ("tls-cert-file", certificates.certificate, "tls-key-file", certificates.key)
    ca = ("tls-ca-cert-file", certificates.authority, "tls-auth-clients", "no")
    await plain.call("CONFIG", "SET", *map(str, files), *map(str, ca), "tls-port", port)
    yield redis_url.replace("redis://", "rediss://").replace(f"127.0.0.1:{redis_server.port}", f"localhost:{port}")
    await plain.call("CONFIG", "SET", "tls-port", 0)
    await plain.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_is_trusted_only_if_its_authority_is(
    secured: str, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    authority = certificates.authority if trusted else make_certificates(tmp_path / "other").authority
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(authority))
    link = RedisLink(secured)
    await link.open()
    try:
        assert link.up is trusted
        if trusted:
            assert await link.call("PING") in (b"PONG", "PONG")
            return
        with pytest.raises(LinkDownError, match="certificate verify failed"):
            await link.call("PING")
    finally:
        await link.close()


async def test_a_certificate_of_another_name_is_refused(
    secured: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(certificates.authority))
    link = RedisLink(secured.replace("localhost", "127.0.0.1"))
    await link.open()
    try:
        with pytest.raises(LinkDownError, match="certificate verify failed"):
            await link.call("PING")
    finally:
        await link.close()
