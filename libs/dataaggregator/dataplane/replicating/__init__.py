"""A whole schema in one run: its streams found, each loaded by a runner of its own, and one outcome of all."""

from dataaggregator.dataplane.replicating.replication import Replication

__all__ = ["Replication"]
