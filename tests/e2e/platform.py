"""A whole embedded platform as a user starts it: `dataaggregator up` in a process and a home of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dataaggregator.client import Client
from dataaggregator.embedded.home import Home
from dataaggregator.embedded.postgres import DATABASE, USER

START_SECONDS = 60.0
STOP_SECONDS = 40.0
PROGRAM = Path(sys.executable).with_name("dataaggregator")


class Platform:
    """Starts, kills and stops the platform on one home; what it printed is kept for a failing test to show."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, *, demo: bool = False) -> None:
        self.home = Home(folder / "home")
        self.log = folder / "platform.log"
        self._settings = {"GATEWAY_PORT": "0", "BCRYPT_COST": "4", "LOG_FORMAT": "json", **(settings or {})}
        self._words = ["up", "--demo"] if demo else ["up"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach this platform."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "DATAAGGREGATOR_HOME": str(self.home.path), **self._settings}

    @property
    def pid(self) -> int:
        """The platform's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        url = self.home.gateway_url()
        assert url is not None, self.printed()
        return url

    @property
    def database_url(self) -> str:
        """The owner's door to the platform's own database, for what no call can do."""
        password = (self.home.postgres / "password").read_text().strip()
        port = (self.home.postgres / "data" / "postmaster.pid").read_text().splitlines()[3]
        return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"

    def printed(self) -> str:
        """The end of what the platform printed."""
        return self.log.read_text(errors="replace")[-8000:]

    def start(self) -> None:
        """Start it and wait until it takes calls."""
        (self.home.path / "gateway.url").unlink(missing_ok=True)
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [str(PROGRAM), *self._words], env=self.environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        deadline = time.monotonic() + START_SECONDS
        while self.home.gateway_url() is None:
            assert self._process.poll() is None, f"the platform ended by itself:\n{self.printed()}"
            assert time.monotonic() < deadline, f"the platform did not come up:\n{self.printed()}"
            time.sleep(0.02)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, and asked to stop at the end; killed if it does not come up."""
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        try:
            yield
        finally:
            assert self.stop() == 0, self.printed()

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed this."""
        deadline = time.monotonic() + START_SECONDS
        while text not in self.log.read_text(errors="replace"):
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, sign: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(sign)
        code = self._process.wait(STOP_SECONDS)
        self._process = None
        return code

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """The administrator's."""
        credentials = self.home.credentials()
        assert credentials is not None
        async with Client(self.url) as client:
            await client.login(*credentials)
            yield client

    def command(
        self, *words: str, timeout: float = 60, given: str | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `dataaggregator` with these words against this platform; `given` is what is piped in."""
        return subprocess.run(
            [str(PROGRAM), *words],
            env={**self.environment, **(environment or {})},
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
