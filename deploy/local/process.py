"""Starts, pauses and ends one server program that must not outlive whoever started it."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dataaggregator.embedded import launch
from dataaggregator.errors import Permanent

# Below the range that the kernel takes for outgoing connections, so that a killed server finds its port again.
PORTS = range(20_000, 32_000)
POLL_SECONDS = 0.02
END_SECONDS = 20.0


class ServerProcess:
    """One process in a session of its own. It ends when the thread that started it ends: start it from a thread that
    lives as long as it is needed, such as the main one."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        lifeline = ["-1", "-1", str(os.getpid()), str(int(signal.SIGKILL))]
        with log.open("ab") as sink:
            log.chmod(0o600)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(launch.__file__), *lifeline, *command],
                env=environment,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,  # a Ctrl-C at the terminal is the test run's to handle
            )
        self.log = log

    @property
    def pid(self) -> int:
        """Its process, which leads its group."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def signal(self, sign: signal.Signals) -> None:
        """Send it to the whole group; nothing happens where it has ended."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, sign)

    def kill(self) -> None:
        """End the whole group as a power cut would."""
        self.signal(signal.SIGKILL)
        self._process.wait(END_SECONDS)

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Return when it is ready; raise with the end of its log when it ended by itself or took too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_alive() or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace").strip().splitlines()[-5:]
                raise Permanent("server-start-failed", f"{what} did not start in {self.log.parent}: {' / '.join(tail)}")
            time.sleep(POLL_SECONDS)


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, 200 * count):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Permanent("server-start-failed", f"No free port between {PORTS.start} and {PORTS.stop} was found.")


def make_private(folder: Path) -> None:
    """Make the folder, closed to others."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise Permanent(
            "folder-not-writable", f"The folder {folder} cannot be used ({error.strerror}): make it writable."
        ) from error


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
