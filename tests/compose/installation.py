"""One installation by docker-compose.yml on the test run's own engine."""

import json
import shlex
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from deploy.local.docker import DockerEngine
from tests.compose.images import ROOT

Json = dict[str, Any]
SERVICES = ("gateway", "auth", "connectors", "scheduler", "executor")
SERVERS = ("postgres", "rabbitmq", "redis")
USER = 10001
MINUTES = 60.0
HEALTHY_SECONDS = 120.0
POLL_SECONDS = 0.5


class Installation:
    """``figures`` says how long each step took, in seconds."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.figures: dict[str, float] = {}
        self.url = ""

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long a step takes."""
        begun = time.monotonic()
        yield
        self.figures[what] = time.monotonic() - begun

    def try_compose(self, *arguments: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
        """A command of compose, however it ends; images that are not there are never asked for elsewhere."""
        command = [str(self.engine.client), "compose", *arguments]
        return self.engine.run(command, seconds=30 * MINUTES, stdin=stdin, environment=self._told)

    def run_as_typed(self, line: str) -> "subprocess.CompletedProcess[bytes]":
        """A line of the documentation, in a shell that stands in the test's folder."""
        line = f"cd {shlex.quote(str(self.folder))} && {line}"
        return self.engine.run(["sh", "-c", line], seconds=30 * MINUTES, environment=self._told)

    @property
    def _told(self) -> dict[str, str]:
        return {
            "COMPOSE_FILE": f"{ROOT}/docker-compose.yml:{ROOT}/tests/compose/docker-compose.test.yml",
            "COMPOSE_ANSI": "never",
            "DEMO_FOLDER": str(self.folder),
            "PUBLISHED_PORT": "0",  # one of its own, so that nothing of this machine is in the way
        }

    def compose(self, *arguments: str, stdin: bytes | None = None) -> str:
        """A command of compose that must succeed."""
        done = self.try_compose(*arguments, stdin=stdin)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-40:]
            raise AssertionError(f"compose {' '.join(arguments)} failed:\n" + "\n".join(said))
        return done.stdout.decode()

    def up(self, *arguments: str) -> None:
        """What a user types, in the background; return when everything is healthy."""
        done = self.try_compose("up", "--detach", "--pull", "never", *arguments)
        assert done.returncode == 0, f"up failed\n{done.stderr.decode()[-1000:]}\n{self._last_lines()}"
        deadline = time.monotonic() + HEALTHY_SECONDS
        while waiting := [one for one in self.containers() if one["Health"] not in ("", "healthy")]:
            said = {one["Name"]: f"{one['State']} {one['Health']}" for one in waiting}
            assert time.monotonic() < deadline, f"not healthy: {said}\n{self._last_lines()}"
            time.sleep(POLL_SECONDS)
        self.url = f"http://{self.compose('port', 'gateway', '8001').strip()}"

    def _last_lines(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "30")[-8000:]

    def containers(self) -> list[Json]:
        """All of them, those that have ended as well."""
        return [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]

    def inspect(self, service: str, index: int = 1) -> Json:
        """What the engine knows of a container."""
        [found] = json.loads(self.engine.docker("inspect", f"dataaggregator-{service}-{index}"))
        known: Json = found
        return known

    def run_in(self, service: str, *command: str, index: int = 1) -> str:
        """What a command says inside a running container."""
        return self.compose("exec", "--no-TTY", f"--index={index}", service, *command)

    def export(self) -> bytes:
        """The backup of the secrets, as an operator would make it."""
        done = self.try_compose("run", "--rm", "--no-deps", "--no-TTY", "secrets", "export")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def secrets(self) -> dict[str, str]:
        """Every secret by its place."""
        with tarfile.open(fileobj=BytesIO(self.export())) as archive:
            files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
            return {name: file.read().decode() for name, file in files.items() if file is not None}
