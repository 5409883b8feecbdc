"""The bus: events leave by the outbox, arrive by the inbox, and each is applied exactly once."""

from dataaggregator.bus.embedded import EmbeddedBus
from dataaggregator.bus.emit import Said, emit, emit_all, ephemeral
from dataaggregator.bus.handler import Handler
from dataaggregator.bus.port import Bus

__all__ = ["Bus", "EmbeddedBus", "Handler", "Said", "emit", "emit_all", "ephemeral"]
