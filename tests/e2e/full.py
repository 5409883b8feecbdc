"""A whole platform of processes: `dataaggregator serve` for each service, against servers of the test run."""

import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dataaggregator.client import Client
from deploy.local.process import free_ports
from deploy.local.rabbitmq import Broker
from deploy.local.redis import PrivateRedis
from tests.e2e.platform import PROGRAM, STOP_SECONDS, Platform

SERVICES = ("auth", "connectors", "executor", "scheduler", "gateway")
EMAIL = "admin@example.org"
START_SECONDS = 120.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Servers:
    """Where the platform's PostgreSQL database, RabbitMQ's virtual host and Redis are."""

    database_url: str
    rabbitmq_url: str
    broker: Broker
    redis: PrivateRedis

    def environment(self) -> dict[str, str]:
        """The settings that name them."""
        login = f"{self.broker.user}:{self.broker.password}"
        return {
            "DATABASE_URL": self.database_url,
            "RABBITMQ_URL": self.rabbitmq_url,
            "RABBITMQ_MANAGEMENT_URL": self.broker.management_url.replace("://", f"://{login}@"),
            "REDIS_URL": self.redis.url,
        }


class FullPlatform(Platform):
    """One process a group of services and slice. A slice is one of each service, whose gateway calls its own; the
    slices share the servers, so that what one takes on any other may go on with."""

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        settings: Mapping[str, str] | None = None,
        *,
        slices: int = 1,
        groups: Sequence[str] = SERVICES,
    ) -> None:
        super().__init__(folder, settings)
        self._servers = servers
        self._groups = groups
        self._password = secrets.token_urlsafe(12)
        self._secret_key = secrets.token_urlsafe(48)
        self._ports = [dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True)) for _ in range(slices)]
        self.processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach this platform, and each process to be part of it."""
        return {
            # The processes of all slices share the test's PostgreSQL.
            "DB_POOL_SIZE": "4",
            "DB_MAX_OVERFLOW": "2",
            **super().environment,
            **self._servers.environment(),
            "SECRET_KEY": self._secret_key,
            "BOOTSTRAP_ADMIN_EMAIL": EMAIL,
            "BOOTSTRAP_ADMIN_PASSWORD": self._password,
            "FILES_ALLOWED_ROOTS": "/",
            "EGRESS_ALLOW": "127.0.0.0/8",
        }

    @property
    def database_url(self) -> str:
        return self._servers.database_url

    @property
    def pid(self) -> int:
        """The executor's process."""
        return self.processes["executor", 0].pid

    @property
    def redis(self) -> PrivateRedis:
        """What its processes tell each other over, and keep nothing in."""
        return self._servers.redis

    def gateway(self, number: int) -> str:
        """Where the gateway of a slice answers."""
        return f"http://127.0.0.1:{self._ports[number]['gateway']}"

    def start(self) -> None:
        self.home.make()
        self.home._kept("admin.json", lambda: f'{{"email": "{EMAIL}", "password": "{self._password}"}}')
        self._run("db", "upgrade")
        self._run("bus", "declare")
        for number in range(len(self._ports)):
            for group in self._groups:
                self.start_group(group, number)
        self.wait_until_ready()
        self.home.announce(self.gateway(0))

    def start_group(self, group: str, number: int) -> None:
        """Start one process; `wait_until_ready` waits for all."""
        with self.log.open("ab") as sink:
            self.processes[group, number] = subprocess.Popen(
                [str(PROGRAM), "serve", *group.split()],
                env={**self.environment, **self._addresses(number)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def wait_until_ready(self) -> None:
        """Every process says that it can do its work."""
        deadline = time.monotonic() + START_SECONDS
        for (group, number), process in self.processes.items():
            while not all(self._ready(service, number) for service in group.split()):
                assert process.poll() is None, f"{group} ended by itself:\n{self.printed()}"
                assert time.monotonic() < deadline, f"{group} did not come up:\n{self.printed()}"
                time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
        self._wait()

    def stop(self) -> int:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return self._wait()

    def stop_group(self, group: str, number: int) -> int:
        """Ask one process to stop; returns its exit code."""
        process = self.processes.pop((group, number))
        process.send_signal(signal.SIGTERM)
        return process.wait(STOP_SECONDS)

    def _wait(self) -> int:
        codes = [process.wait(STOP_SECONDS) for process in self.processes.values()]
        self.processes.clear()
        return max(codes, key=abs, default=0)

    def _addresses(self, number: int) -> dict[str, str]:
        ports = self._ports[number]
        listening = {f"{service.upper()}_PORT": str(port) for service, port in ports.items()}
        return {
            **listening,
            **{f"{service.upper()}_URL": f"http://127.0.0.1:{port}" for service, port in ports.items()},
        }

    def _ready(self, service: str, number: int) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._ports[number][service]}/health/ready", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            [str(PROGRAM), *words], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def administrators(platform: FullPlatform, slices: int) -> AsyncIterator[list[Client]]:
    """The administrator, logged in at the gateway of each slice."""
    credentials = platform.home.credentials()
    assert credentials is not None
    async with AsyncExitStack() as held:
        made = [await held.enter_async_context(Client(platform.gateway(number))) for number in range(slices)]
        for client in made:
            await client.login(*credentials)
        yield made
