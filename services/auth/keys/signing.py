"""The signing keys in memory: opened from Postgres, rotated, and what access tokens are signed with."""

import asyncio
import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataaggregator.clock import Clock
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.resealing import Sealed
from dataaggregator.secrets import KeyRing

from . import store
from .domain import ALGORITHM, Policy, SigningKey, expired, jwks, next_active_at, signer

PURPOSE = "signing-key"
PEPPER = "password"
PEPPER_PURPOSE = "pepper"
#: What is kept beside the pepper has its own name for a purpose.
SEALED = (
    Sealed("auth.signing_keys", ("kid",), lambda row: (row["kid"], PURPOSE)),
    Sealed(
        "auth.peppers",
        ("purpose",),
        lambda row: (row["purpose"], PEPPER_PURPOSE if row["purpose"] == PEPPER else row["purpose"]),
    ),
)


class SigningKeys:
    """Signs access tokens; `refresh` rotates what is due and takes in what other replicas made."""

    def __init__(self, database: Database, ring: KeyRing, clock: Clock, policy: Policy | None = None) -> None:
        self._database = database
        self._ring = ring
        self._clock = clock
        self._policy = policy or Policy()
        self._keys: list[SigningKey] = []

    async def refresh(self) -> None:
        """Make a key when one is due, drop outlived ones, keep the rest in memory."""
        now = self._clock.now()
        async with self._database.platform() as tx:
            await store.lock(tx)
            keys = [self._open(sealed) for sealed in await store.list_keys(tx)]
            active_at = next_active_at(keys, now, self._policy)
            if active_at is not None:
                key = SigningKey(secrets.token_urlsafe(12), Ed25519PrivateKey.generate(), active_at)
                await store.add_key(tx, self._seal(key), now)
                keys.append(key)
            dropped = {key.kid for key in expired(keys, now, self._policy)}
            if dropped:
                await store.remove_keys(tx, sorted(dropped))
        self._keys = [key for key in keys if key.kid not in dropped]

    async def keep_fresh(self, every_seconds: float) -> None:
        """The loop of `refresh`: far more often than a new key is published before it signs."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self.refresh()
            except Transient:
                continue  # the keys in memory go on signing; the next round finds the database back

    def check(self) -> None:
        """Raises Transient while there is no key to sign with."""
        self._signer()

    def sign(self, claims: dict[str, object]) -> str:
        key = self._signer()
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public halves, also of keys that sign soon or signed until lately."""
        return jwks(self._keys)

    async def pepper(self) -> bytes:
        """The key of the password pre-hash: made once, sealed, so that SECRET_KEY can be changed under it."""
        async with self._database.platform() as tx:
            await store.lock(tx)
            sealed = await store.find_pepper(tx, PEPPER)
            if sealed is not None:
                return self._ring.open(sealed, aad=PEPPER, purpose=PEPPER_PURPOSE)
            pepper = secrets.token_bytes(32)
            await store.add_pepper(tx, PEPPER, self._ring.seal(pepper, aad=PEPPER, purpose=PEPPER_PURPOSE))
            return pepper

    def _signer(self) -> SigningKey:
        key = signer(self._keys, self._clock.now())
        if key is None:
            raise Transient("keys-not-ready", "The signing keys are not loaded yet.", retry_after=1)
        return key

    def _seal(self, key: SigningKey) -> store.SealedKey:
        private = key.private.private_bytes_raw()
        return store.SealedKey(key.kid, self._ring.seal(private, aad=key.kid, purpose=PURPOSE), key.active_at)

    def _open(self, sealed: store.SealedKey) -> SigningKey:
        private = self._ring.open(sealed.sealed, aad=sealed.kid, purpose=PURPOSE)
        return SigningKey(sealed.kid, Ed25519PrivateKey.from_private_bytes(private), sealed.active_at)
