"""Rate limits: the port, and its adapters: in this process, and in Redis for many processes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dataaggregator.rate import Decision, Rate
from dataaggregator.resource import Resource

__all__ = ["Bucket", "Decision", "Limits", "Rate"]


class Bucket(NamedTuple):
    """Which bucket: ``key`` is whose (``user:<id>``, ``ip:<address>``), ``factor`` above 1 that of trusted networks."""

    limit_class: str
    key: str
    factor: int


class Limits(Resource, Protocol):
    """The limits store; adapters pass ``tests/unit/kit/limits_conformance.py``."""

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        """Take ``cost`` tokens from the bucket of ``key`` in ``limit_class`` (``api``, ``login``, ``run``).

        ``factor`` raises the limit for callers of trusted networks. A refused call takes nothing. Raises Transient
        ``limits-unavailable`` when the store does not answer.
        """

    async def buckets(self, limit_class: str | None = None, key: str | None = None) -> Sequence[Bucket]:
        """Those that are not full, of one class or key only if given, sorted; raises Transient."""

    async def clear(self, bucket: Bucket) -> None:
        """Let a bucket be full again; raises Transient."""
