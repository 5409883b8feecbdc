"""Key domain: when a signing key is made, signs, is still published, and is dropped. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "EdDSA"


@dataclass(frozen=True)
class Policy:
    """How long a key signs, how long it is published before, and how long after (in seconds)."""

    signs_seconds: int = 30 * 24 * 3600
    published_before_seconds: int = 15 * 60
    published_after_seconds: int = 24 * 3600


@dataclass(frozen=True)
class SigningKey:
    kid: str
    private: Ed25519PrivateKey
    active_at: datetime

    def jwk(self) -> dict[str, str]:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kty": public["kty"], "crv": public["crv"], "x": public["x"]} | {
            "kid": self.kid,
            "use": "sig",
            "alg": ALGORITHM,
        }


def signer(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """The youngest key that is already active."""
    active = [key for key in keys if key.active_at <= now]
    return max(active, key=lambda key: key.active_at, default=None)


def next_active_at(keys: Sequence[SigningKey], now: datetime, policy: Policy) -> datetime | None:
    """When a key to be made now should begin to sign; None while no new key is due.

    The very first key signs at once; later ones are published for a while first, so that no verifier
    meets a token whose key it could not have seen.
    """
    if signer(keys, now) is None:
        return now
    youngest = max(key.active_at for key in keys)
    due_at = youngest + timedelta(seconds=policy.signs_seconds - policy.published_before_seconds)
    return now + timedelta(seconds=policy.published_before_seconds) if now >= due_at else None


def expired(keys: Sequence[SigningKey], now: datetime, policy: Policy) -> list[SigningKey]:
    """Keys replaced for so long that no token signed by them can still be valid."""
    ordered = sorted(keys, key=lambda key: key.active_at)
    limit = now - timedelta(seconds=policy.published_after_seconds)
    return [key for key, after in pairwise(ordered) if after.active_at <= limit]


def jwks(keys: Sequence[SigningKey]) -> dict[str, list[dict[str, str]]]:
    return {"keys": [key.jwk() for key in sorted(keys, key=lambda key: key.active_at, reverse=True)]}
