"""TLS towards callers, over real sockets: who is refused, what is told, and certificates that are renewed or wrong."""

import asyncio
import contextlib
import os
import shutil
import ssl
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from dataaggregator.client import Client, UnreachableError
from dataaggregator.clock import SystemClock
from dataaggregator.http import tls
from dataaggregator.http.tls import ServerTls
from dataaggregator.settings import Settings, SettingsError
from dataaggregator.telemetry import metrics
from tests.certificates import Certificates, make_certificates

from .conftest import ADMIN, Platform, started


@dataclass
class Secured:
    """The platform with a gateway that answers over TLS, and the files of its certificate."""

    platform: Platform
    files: Certificates
    port: int

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def handshake(self, context: ssl.SSLContext) -> ssl.SSLObject:
        """What was agreed upon with who wants it so."""
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection("localhost", self.port, ssl=context)
        agreed: ssl.SSLObject = writer.get_extra_info("ssl_object")
        writer.close()
        return agreed

    async def shown(self) -> int:
        """The number of the certificate that a new connection is shown."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = (await self.handshake(context)).getpeercert(binary_form=True)
        assert raw is not None
        return x509.load_der_x509_certificate(raw).serial_number


def with_tls(settings: Settings, files: Certificates) -> Settings:
    return settings.model_copy(update={"tls_certificate": files.certificate, "tls_key": files.key})


def trusting(files: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files.authority)


def number_of(files: Certificates) -> int:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


def ends_at(files: Certificates) -> float:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc.timestamp()


def put(source: Path, target: Path) -> None:
    """In the place of what is there, at once, as who renews a certificate does it."""
    draft = target.with_suffix(".draft")
    shutil.copy(source, draft)
    draft.rename(target)


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "tls")


@pytest.fixture
async def secured(
    platform_settings: Settings, files: Certificates, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Secured]:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.05)
    async with started(with_tls(platform_settings, files)) as platform:
        yield Secured(platform, files, int(platform.addresses["gateway"].rpartition(":")[2]))


async def test_the_gateway_answers_over_tls_alone_and_browsers_are_told_to_stay(secured: Secured) -> None:
    assert secured.platform.addresses["gateway"].startswith("https://")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(secured.files))) as http:
        async with http.get(f"{secured.url}/health/ready") as answer:
            assert answer.status == 200
            assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        headers = {"Authorization": f"Bearer {secured.platform.token}"}
        async with http.get(f"{secured.url}/api/pipelines", headers=headers) as answer:
            told = await answer.json()
        assert told["headers"]["X-Forwarded-Proto"] == "https"
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://localhost:{secured.port}/health/ready")
    with pytest.raises(ssl.SSLCertVerificationError):
        await secured.handshake(ssl.create_default_context())


async def test_what_is_in_the_same_process_goes_on_in_the_clear_on_this_machine(secured: Secured) -> None:
    """The gateway asks itself for what it set aside, and for how it is."""
    assert secured.platform.url.startswith("http://127.0.0.1:")
    for path in ("/api/parked", "/api/status"):
        status, told, headers = await secured.platform.call("GET", path)
        assert status == 200
        assert "Strict-Transport-Security" not in headers
        if path == "/api/status":
            assert {one["name"]: one["status"] for one in told["services"]}["gateway"] == "ready"
        else:
            assert "gateway" not in told["unanswered"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_newer_protocols_are_spoken_with_keys_that_later_theft_does_not_open(
    secured: Secured, version: ssl.TLSVersion
) -> None:
    context = trusting(secured.files)
    context.minimum_version = context.maximum_version = version
    agreed = await secured.handshake(context)
    assert agreed.version() == version.name.replace("_", ".")
    cipher = agreed.cipher()
    assert cipher is not None
    assert cipher[0].startswith(("ECDHE-", "TLS_"))
    assert "GCM" in cipher[0] or "POLY1305" in cipher[0]


def old_protocol(context: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")


def weak_cipher(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256")


@pytest.mark.parametrize("asks", [old_protocol, weak_cipher])
async def test_old_protocols_and_ciphers_are_refused(secured: Secured, asks: Callable[[ssl.SSLContext], None]) -> None:
    context = trusting(secured.files)
    asks(context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await secured.handshake(context)


async def test_a_renewed_certificate_is_shown_to_new_connections_and_others_stay(
    secured: Secured, tmp_path: Path
) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(secured.files), limit=1)) as http:
        assert (await http.get(f"{secured.url}/health/live")).status == 200
        renewed = make_certificates(tmp_path / "renewed")
        put(renewed.certificate, secured.files.certificate)
        put(renewed.key, secured.files.key)
        async with asyncio.timeout(10):
            while await secured.shown() != number_of(renewed):  # noqa: ASYNC110 - the files are looked at
                await asyncio.sleep(0.02)
        assert (await http.get(f"{secured.url}/health/live")).status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        await secured.handshake(trusting(make_certificates(tmp_path / "another")))
    assert (await secured.handshake(trusting(renewed))).version() == "TLSv1.3"


def shown_by(context: ssl.SSLContext) -> int:
    """The number of the certificate that a server with this context shows, without a socket."""
    asking = ssl.create_default_context()
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = asking.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    raw = client.getpeercert(binary_form=True)
    assert raw is not None
    return x509.load_der_x509_certificate(raw).serial_number


def test_only_what_is_right_takes_the_place_of_what_was(files: Certificates, tmp_path: Path) -> None:
    held = ServerTls(files.certificate, files.key, SystemClock())
    first = number_of(files)
    assert not held.renew()
    other, ended = (
        make_certificates(tmp_path / "other"),
        make_certificates(tmp_path / "ended", end=timedelta(seconds=-1)),
    )
    put(other.certificate, files.certificate)
    assert (held.renew(), shown_by(held.context)) == (False, first)
    put(ended.certificate, files.certificate)
    put(ended.key, files.key)
    assert (held.renew(), shown_by(held.context)) == (False, first)
    files.certificate.unlink()
    assert (held.renew(), shown_by(held.context)) == (False, first)
    put(other.key, files.key)
    put(other.certificate, files.certificate)
    assert (held.renew(), shown_by(held.context)) == (True, number_of(other))
    assert not held.renew()
    assert metrics.TLS_CERTIFICATE_ENDS.of("TLS_CERTIFICATE")._value.get() == ends_at(other)


def refused(certificate: Path, key: Path) -> str:
    with pytest.raises(SettingsError) as raised:
        ServerTls(certificate, key, SystemClock())
    return str(raised.value)


def test_files_that_cannot_be_used_are_named_with_what_would_be_right(files: Certificates, tmp_path: Path) -> None:
    other, nobody = make_certificates(tmp_path / "other"), tmp_path / "nobody.pem"
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    assert f"TLS_CERTIFICATE={nobody}: cannot be read: No such file" in refused(nobody, files.key)
    assert f"TLS_KEY={nobody}: cannot be read: No such file" in refused(files.certificate, nobody)
    assert f"TLS_CERTIFICATE={text}: has no certificate in PEM" in refused(text, files.key)
    assert f"TLS_CERTIFICATE={files.key}: has no certificate in PEM" in refused(files.key, files.key)
    assert f"TLS_KEY={text}: cannot be read as a private key" in refused(files.certificate, text)
    assert f"TLS_KEY={other.key}: is of another certificate than" in refused(files.certificate, other.key)
    ended = make_certificates(tmp_path / "ended", end=timedelta(seconds=-1))
    assert f"TLS_CERTIFICATE={ended.certificate}: ended at" in refused(ended.certificate, ended.key)
    early = make_certificates(tmp_path / "early", begin=timedelta(minutes=5))
    assert f"TLS_CERTIFICATE={early.certificate}: begins at" in refused(early.certificate, early.key)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(files: Certificates) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"geheim")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
    assert f"TLS_KEY={files.key}: has a passphrase" in refused(files.certificate, files.key)


async def test_a_wrong_key_stops_the_gateway_at_its_start(
    platform_settings: Settings, files: Certificates, tmp_path: Path
) -> None:
    put(make_certificates(tmp_path / "other").key, files.key)
    with pytest.raises(SettingsError, match=r"TLS_KEY=.*is of another certificate"):
        async with started(with_tls(platform_settings, files)):
            pass


async def test_the_client_trusts_the_authority_it_is_told_of(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Client(secured.url, authority=secured.files.authority) as client:
        await client.login(*ADMIN)
        assert (await client.get("/api/auth/me"))["email"] == ADMIN[0]
    monkeypatch.setenv("DATAAGGREGATOR_CA_FILE", str(secured.files.authority))
    async with Client(secured.url) as client:
        await client.login(*ADMIN)
    async with Client(f"https://127.0.0.1:{secured.port}") as client:
        with pytest.raises(UnreachableError, match="DATAAGGREGATOR_CA_FILE"):
            await client.login(*ADMIN)
    monkeypatch.delenv("DATAAGGREGATOR_CA_FILE")
    async with Client(secured.url) as client:
        with pytest.raises(UnreachableError, match=r"self.signed|unable to get"):
            await client.login(*ADMIN)
    with pytest.raises(UnreachableError, match=r"nobody.pem .* should be a file with certificates"):
        async with Client(secured.url, authority=tmp_path / "nobody.pem"):
            pass
    with pytest.raises(UnreachableError, match="it has none"):
        async with Client(secured.url, authority=secured.files.key):
            pass


async def test_the_command_line_trusts_the_authority_it_is_told_of(secured: Secured, tmp_path: Path) -> None:
    login = {"DATAAGGREGATOR_EMAIL": ADMIN[0], "DATAAGGREGATOR_PASSWORD": ADMIN[1]}
    environment = os.environ | login | {"DATAAGGREGATOR_HOME": str(tmp_path / "home")}

    async def command(*options: str) -> tuple[int | None, str]:
        program = Path(sys.executable).with_name("dataaggregator")
        asked = ("--url", secured.url, *options, "--json", "users", "list")
        done = await asyncio.create_subprocess_exec(
            program, *asked, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(60):
            told, _ = await done.communicate()
        return done.returncode, told.decode()

    code, told = await command("--ca-file", str(secured.files.authority))
    assert (code, ADMIN[0] in told) == (0, True), told
    code, told = await command()
    assert (code, "--ca-file" in told) == (1, True), told


async def test_services_speak_tls_among_each_other_where_their_addresses_say_so(
    platform_settings: Settings, files: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority as SSL_CERT_FILE names it at the start of a process."""
    settings = with_tls(platform_settings, files).model_copy(update={"scheduler_url": "https://localhost:8005"})
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting(files))
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
    async with started(settings, addresses={"scheduler": ("127.0.0.1", 0)}) as platform:
        address = platform.addresses["scheduler"].replace("127.0.0.1", "localhost")
        assert address.startswith("https://")
        platform.ports.directory.put("scheduler", address)
        status, told, _ = await platform.call("GET", "/api/pipelines")
        assert (status, told["remote"]) == (200, "127.0.0.1")
        platform.ports.directory.put("scheduler", address.replace("localhost", "127.0.0.1"))
        assert (await platform.call("GET", "/api/pipelines"))[0] == 503
        assert platform.addresses["auth"].startswith("http://")
