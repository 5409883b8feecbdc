"""Revocations as they are sent: ``{"revoked": [{"kind": …, "id": …, "revoked_at": …, "until": …}]}``."""

from collections.abc import Iterable
from datetime import datetime

import orjson

from dataaggregator.revocations import Revocation


def packed(revocations: Iterable[Revocation]) -> bytes:
    """As one JSON document."""
    return orjson.dumps({"revoked": list(revocations)})


def unpacked(document: bytes) -> list[Revocation]:
    """What such a document says; raises ValueError, KeyError or TypeError for any other."""
    return [
        Revocation(one["kind"], one["id"], _time(one["revoked_at"]), _time(one["until"]))
        for one in orjson.loads(document)["revoked"]
    ]


def _time(written: str) -> datetime:
    at = datetime.fromisoformat(written)
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at
