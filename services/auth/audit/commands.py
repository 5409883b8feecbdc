"""Audit commands: sign from time to time how far each chain has come, and look whether all of it still holds."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataaggregator.clock import Clock
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.secrets import KeyRing
from dataaggregator.telemetry import logs
from services.auth.keys import store as keys

from . import store
from .domain import Broken, Head, Link, first_wrong

PURPOSE = "audit-heads"
HEADS_EVERY_SECONDS = 60.0
BATCH = 1000

log = logs.get("auth")


@dataclass(frozen=True)
class Verified:
    """A chain gone through: its end, the head that was signed last, and the first entry that does not hold."""

    workspace_id: UUID
    entries: int
    end: Link | None
    head: Head | None
    signature: bytes | None
    broken: Broken | None


class Trail:
    """The audit of all workspaces. The key of its heads is made once and sealed, and is never rotated."""

    name = "audit"

    def __init__(self, database: Database, ring: KeyRing, clock: Clock) -> None:
        self._database = database
        self._ring = ring
        self._clock = clock
        self._key: Ed25519PrivateKey | None = None

    async def open(self) -> None:
        async with self._database.platform() as tx:
            await keys.lock(tx)
            sealed = await keys.find_pepper(tx, PURPOSE)
            if sealed is None:
                self._key = Ed25519PrivateKey.generate()
                made = self._ring.seal(self._key.private_bytes_raw(), aad=PURPOSE, purpose=PURPOSE)
                await keys.add_pepper(tx, PURPOSE, made)
            else:
                opened = self._ring.open(sealed, aad=PURPOSE, purpose=PURPOSE)
                self._key = Ed25519PrivateKey.from_private_bytes(opened)

    async def close(self) -> None:
        self._key = None

    async def ping(self) -> None:
        self._known_key()

    def public_key(self) -> bytes:
        """What the signatures of heads are verified by."""
        return self._known_key().public_key().public_bytes_raw()

    async def keep_signed(self) -> None:
        """The loop of `sign_heads`: what was appended since is what a cut of the chain's end can hide from it."""
        while True:
            try:
                await self.sign_heads()
            except Transient as error:
                log.warning("audit_heads_postponed", code=error.code)
            await asyncio.sleep(HEADS_EVERY_SECONDS)

    async def sign_heads(self) -> None:
        """Sign the ends of chains that have gone on; told in the log too, which is kept elsewhere than the database."""
        key, now = self._known_key(), self._clock.now()
        signed: list[tuple[Head, bytes]] = []
        async with self._database.platform() as tx:
            for workspace, position, digest in await store.ends(tx):
                head = Head(workspace, position, digest, now)
                signature = key.sign(head.signed)
                if await store.add_head(tx, head, signature):
                    signed.append((head, signature))
        for head, signature in signed:
            where = {"workspace_id": str(head.workspace_id), "position": head.position, "digest": head.digest.hex()}
            log.info("audit_head", **where, signed_at=head.signed_at, sealed_by=signature.hex())

    async def verify(self, workspace: UUID, kept: Mapping[int, bytes]) -> Verified:
        """Go through a workspace's chain; `kept` are digests by position that somebody has written down elsewhere."""
        entries, end, wrong = await self._walk(workspace)
        found = [] if wrong is None else [wrong]
        async with self._database.platform() as tx:
            newest = await store.last_head(tx, workspace)
            position = await store.contradicted(tx, workspace)
            if position is not None:
                found.append(Broken(position, "it is not there as it was when the head at this place was signed"))
            for at, digest in kept.items():
                if await store.digest_at(tx, workspace, at) != digest:
                    found.append(Broken(at, "it is not there as it was when its digest was kept elsewhere"))
        head, signature = newest or (None, None)
        if head is not None and signature is not None and not self._signed(head, signature):
            found.append(Broken(head.position, "the head at this place was not signed by this platform"))
        return Verified(workspace, entries, end, head, signature, min(found, default=None))

    async def _walk(self, workspace: UUID) -> tuple[int, Link | None, Broken | None]:
        """How many entries there are, the last one, and the first that is wrong; a batch at a time."""
        entries, last = 0, None
        wrong: Broken | None = None
        while True:
            after = 0 if last is None else last.position
            async with self._database.platform() as tx:
                batch = await store.chain(tx, workspace, after=after, limit=BATCH)
            if not batch:
                return entries, last, wrong
            if wrong is None:
                wrong = await asyncio.to_thread(first_wrong, batch, last)
            entries, last = entries + len(batch), batch[-1].link

    def _signed(self, head: Head, signature: bytes) -> bool:
        try:
            self._known_key().public_key().verify(signature, head.signed)
        except InvalidSignature:
            return False
        return True

    def _known_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            raise Transient("keys-not-ready", "The key of the audit is not loaded yet.", retry_after=1)
        return self._key
