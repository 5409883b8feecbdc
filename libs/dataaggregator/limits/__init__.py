"""Rate limits: the port, and its adapters: in this process, and in Redis for many processes."""

from typing import Protocol

from dataaggregator.rate import Decision, Rate
from dataaggregator.resource import Resource

__all__ = ["Decision", "Limits", "Rate"]


class Limits(Resource, Protocol):
    """The limits store; adapters pass ``tests/unit/kit/limits_conformance.py``."""

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        """Take ``cost`` tokens from the bucket of ``key`` in ``limit_class`` (``api``, ``login``, ``run``).

        ``factor`` raises the limit for callers of trusted networks. A refused call takes nothing. Raises Transient
        ``limits-unavailable`` when the store does not answer.
        """
