"""TLS towards callers: a certificate that is judged before it is used, and taken up anew when its files change."""

import asyncio
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509

from dataaggregator.clock import Clock
from dataaggregator.settings import Settings, SettingsError
from dataaggregator.telemetry import logs, metrics

LOOK_SECONDS = 5.0
HANDSHAKE_SECONDS = 10.0

# Of TLS 1.2: an exchange of keys that later theft of ours does not undo, and ciphers that authenticate. TLS 1.3 has no
# others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS = ["http/1.1"]

log = logs.get(__name__)


@dataclass(frozen=True)
class _Seen:
    """Which files were there: another one in the place of one of them, or other bytes in it, is not the same."""

    files: tuple[tuple[int, int, int] | None, ...]


class ServerTls:
    """The certificate and key of this process; `context` goes to the servers and stays, whatever is renewed."""

    def __init__(self, certificate: Path, key: Path, clock: Clock) -> None:
        self._certificate, self._key, self._clock = certificate, key, clock
        self._seen = self._look()
        self._current = self._load()
        self.context = _new_context()
        # A context of its own for each handshake: what is loaded into one that has been used joins what it had.
        self.context.sni_callback = self._choose

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> Self | None:
        """None where no certificate is set; raises SettingsError naming the setting and what would be right."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key, clock)

    async def watch(self) -> None:
        """The loop: takes up what is renewed."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.renew()

    def renew(self) -> bool:
        """Whether other files are there that are right; of such as are not, the ones before go on being used."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._current = self._load()
        except SettingsError as error:
            log.warning("tls_not_renewed", reason=str(error))
            return False
        log.info("tls_renewed", certificate=str(self._certificate))
        return True

    def _choose(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _look(self) -> _Seen:
        return _Seen(tuple(_stat(path) for path in (self._certificate, self._key)))

    def _load(self) -> ssl.SSLContext:
        leaf = _leaf(self._certificate)
        now = self._clock.now()
        shown = f"TLS_CERTIFICATE={self._certificate}"
        if leaf.not_valid_after_utc <= now:
            raise SettingsError(f"{shown}: ended at {_told(leaf.not_valid_after_utc)}. {_RENEW}")
        if leaf.not_valid_before_utc > now:
            raise SettingsError(f"{shown}: begins at {_told(leaf.not_valid_before_utc)} only. {_RENEW}")
        _read(self._key, "TLS_KEY", _KEY)
        context = _new_context()
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except _PassphraseError:
            raise SettingsError(f"TLS_KEY={self._key}: has a passphrase. {_KEY}") from None
        except ssl.SSLError as error:
            raise SettingsError(self._why(error)) from None
        metrics.TLS_CERTIFICATE_ENDS.of("TLS_CERTIFICATE").set(leaf.not_valid_after_utc.timestamp())
        return context

    def _why(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"TLS_KEY={self._key}: is of another certificate than {self._certificate}. {_KEY}"
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
            return (
                f"TLS_CERTIFICATE={self._certificate}: is too weak ({error.reason}). It should be of an EC key, or of "
                "an RSA key of at least 2048 bits, and signed with SHA-256."
            )
        return f"TLS_KEY={self._key}: cannot be read as a private key in PEM. {_KEY}"


_CERTIFICATE = "It should name a file with the certificate (PEM) of this server, those of its authorities behind it."
_RENEW = "It should be one that is valid now."
_KEY = "It should name the file with the private key (PEM, without a passphrase) that TLS_CERTIFICATE was made for."


class _PassphraseError(Exception):
    pass


def _no_passphrase() -> bytes:
    """Asked for by OpenSSL, which would otherwise ask whoever sits at the terminal."""
    raise _PassphraseError


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(PROTOCOLS)
    return context


def _leaf(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(path, "TLS_CERTIFICATE", _CERTIFICATE))[0]
    except ValueError:
        detail = f"TLS_CERTIFICATE={path}: has no certificate in PEM that can be read. {_CERTIFICATE}"
        raise SettingsError(detail) from None


def _read(path: Path, name: str, right: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name}={path}: cannot be read: {error.strerror}. {right}") from None


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
