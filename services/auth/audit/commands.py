"""Audit commands: sign from time to time how far each chain has come, and look whether all of it still holds."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from .domain import ANCHOR_KIND, Broken, Head, Link, first_wrong
from .record import Actor, Deed, record

PURPOSE = "audit-heads"
HEADS_EVERY_SECONDS = 60.0
DROP_EVERY_SECONDS = 600.0
BATCH = 1000
PLATFORM = Actor(None, "platform", None, None)

log = logs.get("auth")


@dataclass(frozen=True)
class Verified:
    """A chain gone through: its end, the head that was signed last, and the first entry that does not hold."""

    workspace_id: UUID
    entries: int
    end: Link | None
    head: Head | None
    signature: bytes | None
    anchor: tuple[Head, bytes] | None
    """The last entry that was dropped when its time was over, signed: the chain goes on from it."""
    broken: Broken | None


class Trail:
    """The audit of all workspaces. The key of its heads is made once and sealed, and is never rotated."""

    name = "audit"

    def __init__(self, database: Database, ring: KeyRing, clock: Clock, keep: timedelta | None = None) -> None:
        """`keep`: how long entries are kept, None for ever."""
        self._database = database
        self._ring = ring
        self._clock = clock
        self._keep = keep
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

    async def keep_young(self) -> None:
        """The loop of `drop_outlived`; where entries are kept for ever it only waits."""
        while True:
            try:
                await self.drop_outlived()
            except Transient as error:
                log.warning("audit_not_dropped", code=error.code)
            await asyncio.sleep(DROP_EVERY_SECONDS)

    async def drop_outlived(self) -> None:
        """Drop the beginnings of chains that are older than entries are kept; what is dropped is told in the audit."""
        while self._keep is not None and await self._drop_some(self._clock.now(), self._keep):
            pass

    async def _drop_some(self, now: datetime, keep: timedelta) -> bool:
        """A batch of each chain, in one transaction with the signed place from which it goes on; is there more?"""
        key = self._known_key()
        async with self._database.platform() as tx:
            found = await store.outlived(tx, now - keep, BATCH)
            for workspace, position, digest in found:
                anchor = Head(workspace, position, digest, now, ANCHOR_KIND)
                dropped = await store.drop(tx, anchor, key.sign(anchor.signed))
                if dropped:
                    deed = Deed("audit.dropped", "audit", str(workspace), {"through": position, "entries": dropped})
                    await record(tx, PLATFORM, deed, workspace, now)
        return bool(found)

    async def verify(self, workspace: UUID, kept: Mapping[int, bytes]) -> Verified:
        """Go through a workspace's chain; `kept` are digests by position that somebody has written down elsewhere."""
        anchor, entries, end, wrong = await self._walk(workspace)
        found = [] if wrong is None else [wrong]
        after = 0 if anchor is None else anchor[0].position
        async with self._database.platform() as tx:
            newest = await store.last_head(tx, workspace)
            position = await store.contradicted(tx, workspace, after)
            if position is not None:
                found.append(Broken(position, "it is not there as it was when the head at this place was signed"))
            for at, digest in kept.items():
                there = anchor[0].digest if anchor and at == after else await store.digest_at(tx, workspace, at)
                # What stood before the anchor was dropped, which its signature answers for.
                if at >= after and there != digest:
                    found.append(Broken(at, "it is not there as it was when its digest was kept elsewhere"))
        head, signature = newest or (None, None)
        if head is not None and signature is not None and not self._signed(head, signature):
            found.append(Broken(head.position, "the head at this place was not signed by this platform"))
        if anchor is not None and not self._signed(*anchor):
            found.append(Broken(after, "what stood here and before was not dropped by this platform"))
        return Verified(workspace, entries, end, head, signature, anchor, min(found, default=None))

    async def _walk(self, workspace: UUID) -> tuple[tuple[Head, bytes] | None, int, Link | None, Broken | None]:
        """From what it goes on, how many entries there are, the last one, and the first that is wrong."""
        while True:
            anchor = await self._anchor(workspace)
            before = None if anchor is None else Link(anchor[0].position, b"", b"", anchor[0].digest)
            entries, end, wrong = await self._walk_from(workspace, before)
            if wrong is None or await self._anchor(workspace) == anchor:
                return anchor, entries, end, wrong
            # More was dropped meanwhile: what is missing now is not what was missing then.

    async def _anchor(self, workspace: UUID) -> tuple[Head, bytes] | None:
        async with self._database.platform() as tx:
            return await store.last_anchor(tx, workspace)

    async def _walk_from(self, workspace: UUID, before: Link | None) -> tuple[int, Link | None, Broken | None]:
        """A batch at a time; what stands before what it goes on from does not follow it, and so is wrong too."""
        entries, after, last = 0, 0, before
        wrong: Broken | None = None
        while True:
            async with self._database.platform() as tx:
                batch = await store.chain(tx, workspace, after=after, limit=BATCH)
            if not batch:
                return entries, last if entries else None, wrong
            if wrong is None:
                wrong = await asyncio.to_thread(first_wrong, batch, last)
            entries, last = entries + len(batch), batch[-1].link
            after = last.position

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
