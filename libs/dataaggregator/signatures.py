"""Signed calls by Standard Webhooks: HMAC-SHA-256 over the id, the time and the body of a call. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from dataaggregator.errors import FieldError, Invalid, Unauthenticated

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_TIME = re.compile(r"[0-9]{1,12}")


def new_secret() -> str:
    return _PREFIX + base64.b64encode(os.urandom(32)).decode()


def check_secret(secret: str, field: str) -> str:
    """A secret that somebody else has made; raises Invalid naming the field."""
    try:
        if len(_key(secret)) in _KEY_BYTES:
            return secret
    except (ValueError, binascii.Error):
        pass
    message = f"should be {_PREFIX} and base64 of {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes"
    raise Invalid("body-invalid", f"{field}: {message}.", errors=[FieldError(field, message, "secret")])


def sign(secrets: Iterable[str], id_: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a call, with a signature by each secret."""
    timestamp = str(int(at.timestamp()))
    signatures = " ".join(f"v1,{_signature(secret, id_, timestamp, body)}" for secret in secrets)
    return {ID: id_, TIMESTAMP: timestamp, SIGNATURE: signatures}


def verify(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Raises Unauthenticated unless one of the secrets has signed the call within the last minutes."""
    id_, timestamp, given = (headers.get(name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not (id_ and timestamp and given):
        raise _refused(f"The headers {ID}, {TIMESTAMP} and {SIGNATURE} are needed.")
    if not _TIME.fullmatch(timestamp) or abs(int(timestamp) - now.timestamp()) > TOLERANCE_SECONDS:
        raise _refused(f"{TIMESTAMP} should be within {TOLERANCE_SECONDS} seconds of the platform's clock.")
    right = [f"v1,{_signature(secret, id_, timestamp, body)}".encode() for secret in secrets]
    signatures = [one.encode("utf-8", "surrogateescape") for one in given.split(" ")]
    if not any(hmac.compare_digest(one, wanted) for one in signatures for wanted in right):
        raise _refused("The signature is not one by the hook's secret over this id, time and body.")


def _signature(secret: str, id_: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((id_.encode("utf-8", "surrogateescape"), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        raise ValueError("another kind of secret")
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def _refused(detail: str) -> Unauthenticated:
    return Unauthenticated("signature-invalid", detail)
