"""A private Redis: its own folder, loopback port and password; it keeps nothing over a restart."""

import secrets
import shutil
import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import debian
from deploy.local.process import ServerProcess, free_ports, make_private, write_private

START_SECONDS = 30.0
CALL_SECONDS = 10.0
DATABASES = 64
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
databases {databases}
save ""
appendonly no
daemonize no
"""


class PrivateRedis:
    """One server in ``folder`` (made when it is not there); port and password stay over a restart, contents do not.

    It ends when the thread that called `start` ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.port = 0
        self._password = secrets.token_urlsafe(24)
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where to log in, password included. Never to be logged."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """Where to log in to one of its numbered databases."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/{number}"

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self) -> str:
        """Start it and return its URL when it takes connections."""
        program, environment = _program()
        make_private(self.folder)
        if self.port == 0:
            self.port = free_ports(1)[0]
        values = {"port": self.port, "password": self._password, "folder": self.folder, "databases": DATABASES}
        write_private(self.folder / "redis.conf", CONFIGURATION.format(**values))
        self._process = ServerProcess(
            [program, str(self.folder / "redis.conf")], environment, self.folder / "redis.log"
        )
        try:
            self._process.wait_until(self._answers, "Redis", START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self.url

    def restart(self) -> None:
        """End it as a power cut would and start it again, empty."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._running().kill()

    def stop(self) -> None:
        """End it: it has nothing to keep."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nobody answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._running().signal(signal.SIGCONT)

    def flush(self) -> None:
        """Empty all its databases."""
        if b"+OK\r\n+OK\r\n" not in self._say("FLUSHALL"):
            raise RuntimeError("Redis could not be emptied")

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def _answers(self) -> bool:
        try:
            return b"+PONG" in self._say("PING")
        except OSError:
            return False

    def _say(self, command: str) -> bytes:
        """One command in a connection of its own, over the protocol's inline form."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=CALL_SECONDS) as wire:
            wire.sendall(f"AUTH {self._password}\r\n{command}\r\nQUIT\r\n".encode())
            answer = b""
            while part := wire.recv(4096):
                answer += part
        return answer


def _program() -> tuple[str, dict[str, str]]:
    """The machine's own server, or Debian's, with the environment that it needs."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    found = shutil.which("redis-server")
    if found is not None:
        return found, environment
    root = debian.fetch("redis-server", r"redis-.*|lib(jemalloc|lzf|lua|atomic|hiredis).*|lua-.*", lambda _: None)
    return str(root / "usr/bin/redis-server"), {**environment, "LD_LIBRARY_PATH": debian.library_path(root)}
