"""The servers of one full platform that nobody else uses, to measure it on or to do anything to."""

from pathlib import Path

from dataaggregator.embedded.postgres import EmbeddedPostgres
from deploy.local.process import free_ports
from deploy.local.rabbitmq import PrivateRabbit
from deploy.local.redis import PrivateRedis
from tests.e2e.full import Servers

CONNECTIONS = 200
VHOST = "platform"


class PrivateServers:
    """PostgreSQL (durable), RabbitMQ and Redis, at the same ports at every start."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        """With `database_url` PostgreSQL is there already."""
        self._database_url = database_url
        self.postgres = EmbeddedPostgres(folder / "postgres", port=free_ports(1)[0], connections=CONNECTIONS)
        self.rabbit = PrivateRabbit(folder / "rabbitmq")
        self.redis = PrivateRedis(folder / "redis")

    def start(self) -> Servers:
        """All at the same time; the broker takes longest."""
        found = self.launch()
        self.wait()
        return found

    def launch(self) -> Servers:
        """Start them, and wait for all but the broker."""
        self.rabbit.launch()
        self.redis.start()
        url = self._database_url or self.postgres.start()
        return Servers(url, self.rabbit.url(VHOST), self.rabbit.broker, self.redis)

    def wait(self) -> None:
        """Until the broker takes connections too."""
        self.rabbit.wait().make_vhost(VHOST)

    def stop(self) -> None:
        self.postgres.stop()
        self.redis.stop()
        self.rabbit.stop()
