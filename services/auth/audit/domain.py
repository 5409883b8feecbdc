"""Audit domain: the hash chain, one for each workspace. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

FIRST = bytes(32)


@dataclass(frozen=True)
class Link:
    """One entry of the chain as stored."""

    position: int
    previous: bytes
    content: bytes
    digest: bytes


def canonical(entry: dict[str, object]) -> bytes:
    """The bytes that are hashed: sorted keys, no blanks, so that equal entries have equal bytes."""
    return orjson.dumps(entry, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def link(previous: Link | None, content: bytes) -> Link:
    """The link that follows `previous`; its digest covers position, all before it, and its own content."""
    position = 1 if previous is None else previous.position + 1
    before = FIRST if previous is None else previous.digest
    digest = hashlib.sha256(position.to_bytes(8, "big") + before + content).digest()
    return Link(position, before, content, digest)


def first_broken(links: Iterable[Link]) -> int | None:
    """The position where the chain was changed, cut or reordered; None when it is whole."""
    previous: Link | None = None
    for found in links:
        expected = link(previous, found.content)
        if (found.position, found.previous, found.digest) != (
            expected.position,
            expected.previous,
            expected.digest,
        ):
            return expected.position
        previous = found
    return None
