"""Tokens: who is asking is told by an EdDSA signature, checked once and then remembered by the token's bytes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dataaggregator.clock import Clock
from dataaggregator.definition import KeyUsed
from dataaggregator.directory import Directory
from dataaggregator.errors import Transient, Unauthenticated
from dataaggregator.http.identity import Identity, Membership
from dataaggregator.ids import new_id
from dataaggregator.permissions import Permission, Role
from dataaggregator.revocations import Revocations, TokenFacts
from dataaggregator.secrets import KeyRing

ISSUER = AUDIENCE = "dataaggregator"
SERVICE_ISSUER = "dataaggregator-service"
ALGORITHM = "EdDSA"

_SERVICE_KEY_ID = "service"
_SERVICE_TOKEN_SECONDS = 60
_REQUIRED = ["exp", "iat", "aud", "iss", "jti", "sub"]
_LEEWAY = timedelta(seconds=30)
_CACHED = 10_000


class Jwks(Protocol):
    """The public keys of access tokens."""

    async def key(self, key_id: str) -> Ed25519PublicKey | None:
        """The key, or None if there is none of this id; raises Transient when the keys cannot be had."""

    def holds(self, key_id: str) -> bool:
        """Is the key (still) a known one?"""


class StaticJwks:
    """Keys that are given."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)

    async def key(self, key_id: str) -> Ed25519PublicKey | None:
        return self._keys.get(key_id)

    def holds(self, key_id: str) -> bool:
        return key_id in self._keys


class RemoteJwks:
    """The keys of ``GET /api/auth/jwks.json``, fetched when first needed, when an unknown one is named, when old."""

    _OLD = timedelta(minutes=5)
    _AGAIN = timedelta(seconds=5)

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> Ed25519PublicKey | None:
        if self._due(self._AGAIN if key_id not in self._keys else self._OLD):
            async with self._lock:
                if self._due(self._AGAIN if key_id not in self._keys else self._OLD):
                    await self._refresh(keep=key_id in self._keys)
        return self._keys.get(key_id)

    def holds(self, key_id: str) -> bool:
        return key_id in self._keys

    def _due(self, age: timedelta) -> bool:
        return self._fetched_at is None or self._clock.now() - self._fetched_at >= age

    async def _refresh(self, *, keep: bool) -> None:
        """Fetch; where the keys cannot be had, those we hold go on being good if ``keep``."""
        url = f"{self._directory.url('auth')}/api/auth/jwks.json"
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(url, raise_for_status=True) as response,
            ):
                document = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            if keep:
                return
            raise Transient("service-unavailable", "The service auth does not give its public keys.") from None
        self._keys = {key["kid"]: _public_key(key) for key in document["keys"] if key.get("crv") == "Ed25519"}
        self._fetched_at = self._clock.now()


@dataclass(frozen=True, slots=True)
class _Verified:
    identity: Identity
    facts: TokenFacts | None
    expires_at: datetime
    key_id: str


class TokenVerifier:
    """Access tokens of users and the short tokens of our own services, for one service."""

    def __init__(self, service: str, jwks: Jwks, revocations: Revocations, keys: KeyRing, clock: Clock) -> None:
        self._service = service
        self._jwks = jwks
        self._revocations = revocations
        self._clock = clock
        self._service_key = _service_key(keys).public_key()
        self._verified: dict[str, _Verified] = {}

    async def verify(self, token: str) -> Identity:
        """The identity a token stands for; raises Unauthenticated, or Transient when the keys cannot be had."""
        found = self._verified.get(token)
        if found is None or not self._holds(found.key_id):
            found = await self._check(token)
            self._keep(token, found)
        if found.expires_at <= self._clock.now():
            self._verified.pop(token, None)
            raise Unauthenticated("token-invalid", "The token has run out.")
        if found.facts is not None and self._revocations.revoked(found.facts):
            raise Unauthenticated("token-invalid", "The token was revoked.")
        return found.identity

    def _holds(self, key_id: str) -> bool:
        return key_id == _SERVICE_KEY_ID or self._jwks.holds(key_id)

    def _keep(self, token: str, verified: _Verified) -> None:
        if len(self._verified) >= _CACHED:
            now = self._clock.now()
            self._verified = {known: one for known, one in self._verified.items() if one.expires_at > now}
            if len(self._verified) >= _CACHED:
                self._verified.clear()
        self._verified[token] = verified

    async def _check(self, token: str) -> _Verified:
        try:
            header = jwt.get_unverified_header(token)
            key_id = header["kid"]
            if header.get("alg") != ALGORITHM or not isinstance(key_id, str):
                raise Unauthenticated("token-invalid", "The token is not one of ours.")
            if key_id == _SERVICE_KEY_ID:
                return self._service_identity(token)
            key = await self._jwks.key(key_id)
            if key is None:
                raise Unauthenticated("token-invalid", "The token is signed with a key that is not ours.")
            claims = self._claims(token, key, audience=AUDIENCE, issuer=ISSUER)
            return _user_identity(claims, key_id)
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise Unauthenticated("token-invalid", "The token is not one of ours.") from None

    def _service_identity(self, token: str) -> _Verified:
        claims = self._claims(token, self._service_key, audience=self._service, issuer=SERVICE_ISSUER)
        identity = Identity(None, None, str(claims["sub"]), (), None, str(claims["jti"]))
        return _Verified(identity, None, _time(claims["exp"]), _SERVICE_KEY_ID)

    def _claims(self, token: str, key: Ed25519PublicKey, *, audience: str, issuer: str) -> dict[str, Any]:
        """The claims of a rightly signed token that is not from the future by our clock; of its end `verify` judges."""
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=audience,
            issuer=issuer,
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        now = self._clock.now()
        if _time(claims["iat"]) > now + _LEEWAY or ("nbf" in claims and _time(claims["nbf"]) > now + _LEEWAY):
            raise Unauthenticated("token-invalid", "The token is from the future: compare the clocks.")
        return claims


class ServiceTokens:
    """Makes the tokens by which one of our services speaks to another."""

    def __init__(self, keys: KeyRing, caller: str, clock: Clock) -> None:
        self._key = _service_key(keys)
        self._caller = caller
        self._clock = clock
        self._made: dict[str, tuple[str, datetime]] = {}

    def token(self, target: str) -> str:
        """A token for ``target`` that is good for at least half a minute."""
        now = self._clock.now()
        made = self._made.get(target)
        if made is not None and made[1] - now > timedelta(seconds=_SERVICE_TOKEN_SECONDS / 2):
            return made[0]
        until = now + timedelta(seconds=_SERVICE_TOKEN_SECONDS)
        claims = {
            "iss": SERVICE_ISSUER,
            "aud": target,
            "sub": self._caller,
            "iat": int(now.timestamp()),
            "exp": int(until.timestamp()),
            "jti": str(new_id()),
        }
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": _SERVICE_KEY_ID})
        self._made[target] = (token, until)
        return token


def _user_identity(claims: Mapping[str, Any], key_id: str) -> _Verified:
    """The identity in the claims of an access token (sub, email, ws, dws, fam, jti; of a key: key, key_name, scp)."""
    user_id = UUID(claims["sub"])
    workspaces = claims["ws"]
    if not isinstance(workspaces, list):
        raise TypeError("ws is a list")
    memberships = tuple(Membership(UUID(one["id"]), str(one["name"]), Role(one["role"])) for one in workspaces)
    default, family, scopes, key = (claims.get(name) for name in ("dws", "fam", "scp", "key"))
    identity = Identity(
        user_id=user_id,
        email=claims.get("email"),
        service=None,
        memberships=memberships,
        default_workspace=None if default is None else UUID(default),
        token_id=str(claims["jti"]),
        family=None if family is None else str(family),
        scopes=None if scopes is None else frozenset(Permission(scope) for scope in scopes),
        key=None if key is None else KeyUsed(UUID(key), str(claims.get("key_name", ""))),
    )
    facts = TokenFacts(str(user_id), identity.family, identity.token_id, _time(claims["iat"]))
    return _Verified(identity, facts, _time(claims["exp"]), key_id)


def _service_key(keys: KeyRing) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(keys.derive("service-token"))


def _public_key(key: Mapping[str, str]) -> Ed25519PublicKey:
    found = jwt.PyJWK({**key}, algorithm=ALGORITHM).key
    if not isinstance(found, Ed25519PublicKey):
        raise TypeError("not an Ed25519 key")
    return found


def _time(value: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a time")
    return datetime.fromtimestamp(value, UTC)
