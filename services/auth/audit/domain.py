"""Audit domain: the hash chain, one for each workspace, and the signed heads that say how far it had come. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from dataaggregator.contracts.envelope import rfc3339

FIRST = bytes(32)
HEAD_KIND = "dataaggregator.audit-head.v1"
ANCHOR_KIND = "dataaggregator.audit-anchor.v1"
_SAID = ("service", "action", "resource_type", "resource_id", "actor_id", "actor")
#: What an entry is found by: columns beside what is hashed, which `misfiled` holds against it.
FILED = (*_SAID, "api_key_id")


def filed(said: Mapping[str, Any]) -> tuple[str | None, ...]:
    """By what an entry that says this is found, in the order of `FILED`."""
    key = said.get("detail", {}).get("api_key", {})
    return (*(said.get(name) for name in _SAID), key.get("id"))


@dataclass(frozen=True)
class Link:
    """One entry of the chain as stored."""

    position: int
    previous: bytes
    content: bytes
    digest: bytes


@dataclass(frozen=True)
class Entry:
    """A link where it stands: whose chain, the time and the words it is found by."""

    workspace_id: UUID
    at: datetime
    link: Link
    filed: tuple[str | None, ...]

    @property
    def said(self) -> dict[str, Any]:
        """What is hashed, read."""
        said: dict[str, Any] = orjson.loads(self.link.content)
        return said

    @property
    def misfiled(self) -> bool:
        """Is it found as something else than it says?"""
        said = self.said
        return (filed(said), said.get("workspace_id"), said.get("at")) != (
            self.filed,
            str(self.workspace_id),
            rfc3339(self.at),
        )


@dataclass(frozen=True)
class Head:
    """How far a chain had come at a time; of the other kind, how far it was dropped: it goes on from there."""

    workspace_id: UUID
    position: int
    digest: bytes
    signed_at: datetime
    kind: str = HEAD_KIND

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        return canonical(
            {
                "kind": self.kind,
                "workspace_id": str(self.workspace_id),
                "position": self.position,
                "digest": self.digest.hex(),
                "signed_at": rfc3339(self.signed_at),
            }
        )


@dataclass(frozen=True, order=True)
class Broken:
    """The entry at which a chain does not hold, and why."""

    position: int
    reason: str


def canonical(entry: dict[str, object]) -> bytes:
    """The bytes that are hashed: sorted keys, no blanks, so that equal entries have equal bytes."""
    return orjson.dumps(entry, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def link(previous: Link | None, content: bytes) -> Link:
    """The link that follows `previous`; its digest covers position, all before it, and its own content."""
    position = 1 if previous is None else previous.position + 1
    before = FIRST if previous is None else previous.digest
    digest = hashlib.sha256(position.to_bytes(8, "big") + before + content).digest()
    return Link(position, before, content, digest)


def first_broken(links: Iterable[Link], previous: Link | None = None) -> int | None:
    """The position where the chain was changed, cut or reordered after `previous`; None when it is whole."""
    for found in links:
        expected = link(previous, found.content)
        if found != expected:
            return expected.position
        previous = found
    return None


def first_wrong(entries: Iterable[Entry], previous: Link | None = None) -> Broken | None:
    """The first entry of some that does not follow what is before it, or is not found as what it says."""
    for entry in entries:
        position = first_broken([entry.link], previous)
        if position is not None and position != entry.link.position:
            return Broken(position, "it is missing")
        if position is not None:
            return Broken(position, "it, or what stands before it, is not what was written down")
        if entry.misfiled:
            return Broken(entry.link.position, "the time or a word it is found by is not its own")
        previous = entry.link
    return None
