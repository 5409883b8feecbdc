"""OIDC domain: what a login under way is made of, which id token is believed, and which roles follow. Pure."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from dataaggregator.errors import Denied, Unauthenticated
from dataaggregator.permissions import DEFAULT_WORKSPACE, Role
from dataaggregator.settings.values import GROUP_ROLE

LIFE_SECONDS = 600
# As far as the provider's clock may be off, and as old as a token may be that was asked for just now.
LEEWAY_SECONDS = 60
OLDEST_SECONDS = 600
EVERYBODY = "*"
RSA_BITS_AT_LEAST = 2048
_REQUIRED = ["iss", "sub", "aud", "exp", "iat", "nonce"]
_KINDS = {"RS": ("RSA", None), "PS": ("RSA", None), "Ed": ("OKP", "Ed25519")}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNREADABLE = (jwt.InvalidTokenError, KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Attempt:
    """What a login under way is made of: all of it follows from one secret that only the browser has."""

    secret: str
    state: str
    nonce: str
    verifier: str

    @classmethod
    def of(cls, key: bytes, secret: str) -> "Attempt":
        """Neither the cookie nor the key alone tells what is sent to the provider."""
        return cls(secret, *(_derived(key, secret, part) for part in ("state", "nonce", "verifier")))

    @classmethod
    def begun(cls, key: bytes) -> "Attempt":
        return cls.of(key, secrets.token_urlsafe(32))

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    @property
    def challenge(self) -> str:
        """RFC 7636, 4.2, S256."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())


@dataclass(frozen=True)
class Expected:
    """What an id token has to say to be one for us, of this login."""

    issuer: str
    client_id: str
    algorithm: str
    nonce: str


@dataclass(frozen=True)
class Person:
    """Who the provider says that somebody is; `email` only where it has verified that one."""

    issuer: str
    subject: str
    email: str | None
    name: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Rule:
    """Whoever is in `group` has `role` in the workspace of that name."""

    group: str
    role: Role
    workspace: str

    @classmethod
    def read(cls, written: str) -> "Rule":
        found = GROUP_ROLE.fullmatch(written)
        if found is None:
            raise ValueError(f"not a rule: {written}")
        return cls(found["group"], Role(found["role"]), found["workspace"] or DEFAULT_WORKSPACE)


@dataclass(frozen=True)
class Strength:
    """A claim of the id token, `acr` or `amr`, by which somebody has logged in well enough."""

    claim: str
    value: str

    @classmethod
    def read(cls, written: str) -> "Strength":
        claim, _, value = written.partition("=")
        return cls(claim, value)

    def is_met(self, claims: Mapping[str, Any]) -> bool:
        """`acr` is one level, `amr` a list of methods (OpenID Connect Core 1.0, 2; RFC 8176)."""
        said = claims.get(self.claim)
        return self.value in said if self.claim == "amr" and isinstance(said, list) else self.value == said


def check_strength(strengths: Collection[Strength], claims: Mapping[str, Any]) -> None:
    """Raises Denied `oidc-login-weak` where the id token says none of these; one is enough."""
    if strengths and not any(strength.is_met(claims) for strength in strengths):
        wanted = " or ".join(f"{one.claim} {one.value}" for one in strengths)
        raise Denied(
            "oidc-login-weak", f"The identity provider does not say that you have logged in there by {wanted}."
        )


def usable(keys: Iterable[object], algorithm: str) -> dict[str, Any]:
    """The keys of a JWK set that may have signed by this algorithm, by their id."""
    found: dict[str, Any] = {}
    for jwk in keys:
        if isinstance(jwk, Mapping) and _fits(jwk, algorithm):
            try:
                key = jwt.PyJWK({**jwk}, algorithm=algorithm).key
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
            if not isinstance(key, RSAPublicKey) or key.key_size >= RSA_BITS_AT_LEAST:
                found[str(jwk.get("kid", ""))] = key
    return found


def key_id(token: str, algorithm: str) -> str:
    """Which key a token says to be signed with, empty if it does not; raises Unauthenticated for another algorithm."""
    try:
        header = jwt.get_unverified_header(token)
        given = header.get("kid", "")
        if header.get("alg") == algorithm and isinstance(given, str):
            return given
    except _UNREADABLE:
        raise untrue("it is no signed token") from None
    raise untrue(f"it is not signed by {algorithm}")


def claims_of(token: str, key: Any, expected: Expected, now: datetime) -> Mapping[str, Any]:
    """What an id token says, if all of it is for this login (OpenID Connect Core 1.0, 3.1.3.7)."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[expected.algorithm],
            audience=expected.client_id,
            issuer=expected.issuer,
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        _check_times(claims, now.timestamp())
        _check_party(claims, expected.client_id)
        if not hmac.compare_digest(str(claims["nonce"]).encode(), expected.nonce.encode()):
            raise untrue("it was given for another login")
        if not claims["sub"] or len(claims["sub"]) > 255:
            raise untrue("its subject is none")
    except _UNREADABLE as wrong:
        raise untrue(str(wrong) or "it is not what an id token is") from None
    return claims


def person_of(claims: Mapping[str, Any], groups_claim: str) -> Person:
    """Who that is; what is not of the type it should be is as if it were not there."""
    email, name, groups = claims.get("email"), claims.get("name"), claims.get(groups_claim)
    good = isinstance(email, str) and len(email) <= 254 and _EMAIL.fullmatch(email) is not None
    listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    return Person(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        email=email if good and claims.get("email_verified") is True else None,
        name=_CONTROL.sub("", name)[:200] if isinstance(name, str) else "",
        groups=frozenset(group for group in listed if isinstance(group, str)),
    )


def granted(rules: Iterable[Rule], groups: AbstractSet[str]) -> dict[str, Role | None]:
    """The highest role in each workspace that a rule names, None where none is for these groups."""
    order = list(Role)
    wanted: dict[str, Role | None] = {}
    for rule in rules:
        before = wanted.setdefault(rule.workspace, None)
        mine = rule.group == EVERYBODY or rule.group in groups
        if mine and (before is None or order.index(rule.role) > order.index(before)):
            wanted[rule.workspace] = rule.role
    return wanted


def returns_well(target: str, origins: Iterable[str]) -> bool:
    """Is it a path of the gateway's own, or a page of an origin that is named? Nobody else's link leads elsewhere."""
    if target.startswith("/"):
        return _PATH.fullmatch(target) is not None
    try:
        parts = urlsplit(target)
    except ValueError:
        return False
    return not re.search(r"[\x00-\x20\x7f\\]", target) and f"{parts.scheme}://{parts.netloc}" in origins


def untrue(why: str) -> Unauthenticated:
    return Unauthenticated("oidc-token-invalid", f"The identity provider's id token cannot be believed: {why}.")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not isfinite(one) for one in times.values()):
        raise untrue("its times are none")
    if times["exp"] + LEEWAY_SECONDS <= now:
        raise untrue("it has run out")
    if max(times["iat"], times.get("nbf", 0)) > now + LEEWAY_SECONDS:
        raise untrue("it is from the future: compare the clocks")
    if times["iat"] < now - OLDEST_SECONDS - LEEWAY_SECONDS:
        raise untrue("it was given too long ago")


def _check_party(claims: Mapping[str, Any], client_id: str) -> None:
    """Of several audiences, the one it was given to has to be named, and has to be us."""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") != client_id:
        raise untrue("it was given to another party")


def _fits(jwk: Mapping[str, Any], algorithm: str) -> bool:
    kind, curve = _KINDS.get(algorithm[:2], ("EC", _CURVES.get(algorithm)))
    return (
        jwk.get("kty") == kind
        and curve in (None, jwk.get("crv"))
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", algorithm) == algorithm
    )


def _derived(key: bytes, secret: str, part: str) -> str:
    return _text(hmac.new(key, f"{part}:{secret}".encode(), hashlib.sha256).digest())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
