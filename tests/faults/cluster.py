"""The platform as separate processes on given servers: `dataaggregator serve`, each of which may be killed alone."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dataaggregator.client import Client
from dataaggregator.composition import compose
from dataaggregator.installed import installed_services
from dataaggregator.settings import Settings
from deploy.local.process import free_ports
from tests.faults.invariants import Bus

START_SECONDS = 90.0
STOP_SECONDS = 40.0
SERVICES = ("auth", "connectors", "executor", "gateway", "scheduler")
ROOT = Path(__file__).parents[2]
PROGRAM = (str(Path(sys.executable).with_name("dataaggregator")),)
EMAIL, PASSWORD = "ada@example.org", "correct horse battery staple"
SETTINGS = {
    "SECRET_KEY": "only-for-tests-only-for-tests-only-for-tests",
    "BOOTSTRAP_ADMIN_EMAIL": EMAIL,
    "BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
    "BCRYPT_COST": "4",
    "LOG_FORMAT": "json",
    "EGRESS_ALLOW": "127.0.0.0/8",
    "RATE_LIMIT_API": "1000000/60",
    "RATE_LIMIT_LOGIN": "10000/60",
    "RATE_LIMIT_RUN": "10000/60",
}


class Cluster:
    """Processes with one or several services each; `settings` names the servers (DATABASE_URL, RABBITMQ_URL, …)."""

    def __init__(self, folder: Path, groups: Sequence[Sequence[str]], settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.groups = [tuple(group) for group in groups]
        ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
        self.environment = {
            **kept,
            **SETTINGS,
            "DATAAGGREGATOR_HOME": str(folder / "home"),
            "FILES_ALLOWED_ROOTS": str(folder),
            **{f"{name.upper()}_PORT": str(port) for name, port in ports.items()},
            **{f"{name.upper()}_URL": url for name, url in self.urls.items()},
            **settings,
        }
        self._processes: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return self.urls["gateway"]

    def log(self, group: Sequence[str]) -> Path:
        """What a process prints."""
        return self.folder / f"{'-'.join(group)}.log"

    def printed(self) -> str:
        """The end of what each process printed."""
        logs = [self.log(group) for group in self.groups]
        return "\n\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())

    def command(self, *words: str) -> str:
        """Run `dataaggregator` with these words, as a deployment does before its services start."""
        (self.folder / "home").mkdir(parents=True, exist_ok=True, mode=0o700)
        done = subprocess.run(
            [*PROGRAM, *words], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
        return done.stdout

    def start(self, *groups: Sequence[str], program: Sequence[str] = PROGRAM) -> None:
        """Start these, or all, and wait until they are ready."""
        chosen = [tuple(group) for group in groups] or self.groups
        for group in chosen:
            with self.log(group).open("ab") as sink:
                self._processes[group] = subprocess.Popen(
                    [*program, "serve", *group],
                    cwd=ROOT,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                )
        deadline = time.monotonic() + START_SECONDS
        for group in chosen:
            while not all(self.is_ready(name) for name in group):
                assert self._processes[group].poll() is None, f"{group} ended by itself:\n{self.printed()}"
                assert time.monotonic() < deadline, f"{group} did not come up:\n{self.printed()}"
                time.sleep(0.05)

    def is_ready(self, service: str) -> bool:
        """Whether a service says that it can take work."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.urls[service]}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def alive(self) -> bool:
        """Whether every process that was started is still there."""
        return all(process.poll() is None for process in self._processes.values())

    def pid(self, group: Sequence[str]) -> int:
        """Of the process that is there now."""
        return self._processes[tuple(group)].pid

    def kill(self, group: Sequence[str]) -> None:
        """End a process as a power cut would."""
        process = self._processes.pop(tuple(group))
        process.kill()
        process.wait(STOP_SECONDS)

    def bury(self, group: Sequence[str], within_seconds: float) -> None:
        """Wait until a process has died as if it had been killed."""
        code = self._processes[tuple(group)].wait(within_seconds)
        assert code == -signal.SIGKILL, f"{group} ended with {code}:\n{self.printed()}"
        del self._processes[tuple(group)]

    def stop(self) -> list[int]:
        """Ask all to stop; returns their exit codes."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(STOP_SECONDS) for process in self._processes.values()]
        self._processes.clear()
        return codes

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """The administrator's."""
        async with Client(self.url) as client:
            await client.login(EMAIL, PASSWORD)
            yield client


def bus_of(environment: Mapping[str, str]) -> Bus:
    """What the invariants look at on the bus of a whole platform with these settings."""
    ports = compose(Settings.load(environment))
    return Bus.of(service.build(ports) for service in installed_services())
