"""The bus: the RabbitMQ adapter: topic exchanges, a quorum queue a service, confirms, and a watch over all of it."""

from dataaggregator.bus.rabbitmq.bus import RabbitBus
from dataaggregator.bus.rabbitmq.topology import declare_all

__all__ = ["RabbitBus", "declare_all"]
