"""A private PostgreSQL server: its own folder, a free loopback port, a password of its own, ended by its own pid."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dataaggregator.durable import sync_folder, write_private
from dataaggregator.embedded import launch
from dataaggregator.embedded.binaries import NEWEST, ServerUser, postgres_programs
from dataaggregator.errors import Permanent

USER = "dataaggregator"
DATABASE = "dataaggregator"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01

# Small, since it shares the machine with the platform. Synchronous commits stay on: nothing is lost at a power cut.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "io_method": "sync",
    "max_wal_size": "1GB",
    "wal_level": "replica",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "lc_messages": "C",
    "scram_iterations": "4096",  # of the passwords that people choose
}
SINCE = {"io_method": 18, "scram_iterations": 16}
"""The first version of PostgreSQL that knows a setting."""
OWN_ITERATIONS = 1
"""The server's own password is 32 bytes of chance: nobody guesses it, and each connection pays for each iteration."""
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server in ``folder`` (made when it is not there). ``durable=False`` is for tests that never cut the power.

    As root the server runs as *nobody*; it reaches its data folder through an open file descriptor, so that no parent
    folder has to be opened to others. It ends when the thread that called `start` ends, so that a killed platform
    leaves no server behind: start it from a thread that lives as long as it is needed, such as the main one.
    """

    def __init__(self, folder: Path, *, durable: bool = True, port: int = 0, connections: int = 80) -> None:
        """`port` 0 takes a free one, another at each start; `connections` is the most it takes at once."""
        self.folder = folder
        self._connections = connections
        self._wanted_port = port
        self.data = folder / "data"
        self._durable = durable
        self._user = ServerUser.current()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder_fd: int | None = None
        self.port = 0

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
        return _url(self._password(), self.port)

    def running_url(self) -> str | None:
        """Where a server of another process that runs on this folder takes its owner in; None if none does."""
        if self._predecessor() is None:
            return None
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None  # it has ended just now
        ready = len(lines) >= 8 and lines[7].strip() == "ready"
        return _url(self._password(), int(lines[3])) if ready else None

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start the server, making its folder at the first time, and return its URL when it takes connections."""
        self._make_folders()
        self._folder_fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not (self.data / "PG_VERSION").exists():
                self._initialize()
            self._end_predecessor()
            self.port = self._wanted_port or _free_port()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Shut down cleanly; a server that does not obey in time is ended at once and recovers at its next start."""
        if self._process is not None:
            for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                self._process.send_signal(sign)
                try:
                    self._process.wait(STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process = None
        if self._folder_fd is not None:
            os.close(self._folder_fd)
            self._folder_fd = None

    def _make_folders(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._user is not None:
                os.chown(self.folder, self._user.uid, self._user.gid)
        except OSError as error:
            raise Permanent(
                "folder-not-writable",
                f"The folder {self.folder} cannot be used ({error.strerror}): "
                "make it writable, or set DATAAGGREGATOR_HOME to a folder that is.",
            ) from error

    def _major(self) -> int:
        version = self.data / "PG_VERSION"
        return int(version.read_text()) if version.exists() else NEWEST

    def _password(self) -> str:
        return (self.folder / "password").read_text().strip()

    def _initialize(self) -> None:
        """Make the data folder; an attempt that was cut off leaves nothing that a later start would trust."""
        shutil.rmtree(self.data, ignore_errors=True)
        password = self.folder / "password"
        write_private(password, secrets.token_urlsafe(32) + "\n")
        if self._user is not None:
            os.chown(password, self._user.uid, self._user.gid)
        draft, unsafe = self._inside("draft"), [] if self._durable else ["--no-sync"]
        shutil.rmtree(self.folder / "draft", ignore_errors=True)
        options = [
            "-D",
            draft,
            "-U",
            USER,
            "--pwfile",
            self._inside("password"),
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--set",
            f"scram_iterations={OWN_ITERATIONS}",
        ]
        made = subprocess.run(
            self._command("initdb", [*options, "--locale=C.UTF-8", "--no-instructions", *unsafe]),
            pass_fds=self._fds(),
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise Permanent("postgres-start-failed", f"initdb failed in {self.folder}: {made.stderr.strip()[-500:]}")
        self._run_single_user(draft, f"CREATE DATABASE {DATABASE};\n")
        (self.folder / "draft").rename(self.data)
        sync_folder(self.folder)

    def _run_single_user(self, data: str, statement: str) -> None:
        unsafe = [] if self._durable else ["-F"]
        command = self._command("postgres", ["--single", "-D", data, *unsafe, "postgres"])
        done = subprocess.run(
            command,
            input=statement,
            pass_fds=self._fds(),
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or "ERROR" in done.stderr:
            raise Permanent("postgres-start-failed", f"PostgreSQL refused {statement!r}: {done.stderr.strip()[-500:]}")

    def _end_predecessor(self) -> None:
        """Wait for a server that lost its parent a moment ago; it is shutting down, or else is told to."""
        pid = self._predecessor()
        if pid is None:
            return
        deadline = time.monotonic() + START_SECONDS
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        if not _wait(lambda: self._predecessor() is None, deadline):
            raise Permanent(
                "postgres-start-failed", f"An older PostgreSQL (pid {pid}) still runs on {self.data}: end it."
            )

    def _predecessor(self) -> int | None:
        """The pid of a live server on this very folder (pids are reused: its working folder must be ours)."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return pid if Path(f"/proc/{pid}/cwd").samefile(self.data) else None
        except (OSError, ValueError, IndexError):
            return None

    def _launch(self) -> None:
        own = {"port": str(self.port), "max_connections": str(self._connections)}
        settings = {**SETTINGS, **({} if self._durable else UNSAFE_BUT_FAST), **own}
        arguments = ["-D", self._inside("data")]
        for name, value in settings.items():
            if self._major() >= SINCE.get(name, 0):
                arguments += ["-c", f"{name}={value}"]
        log = self.folder / "postgres.log"
        with log.open("ab") as sink:
            log.chmod(0o600)
            self._process = subprocess.Popen(
                self._command("postgres", arguments),
                pass_fds=self._fds(),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,  # a Ctrl-C at the terminal is the platform's to handle, in its order
            )
        process = self._process
        ready = _wait(lambda: self._is_ready() or process.poll() is not None, time.monotonic() + START_SECONDS)
        if not ready or process.poll() is not None:
            tail = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise Permanent("postgres-start-failed", f"PostgreSQL did not start in {self.folder}: {' / '.join(tail)}")

    def _is_ready(self) -> bool:
        """PostgreSQL itself writes its state into the eighth line of its pid file."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and lines[3].strip() == str(self.port)

    def _command(self, program: str, arguments: Sequence[str]) -> list[str]:
        user = self._user
        ids = (str(user.uid), str(user.gid)) if user else ("-1", "-1")
        path = postgres_programs(self._major(), user) / program
        end = str(int(signal.SIGINT))  # PostgreSQL's fast shutdown
        return [sys.executable, "-I", str(launch.__file__), *ids, str(os.getpid()), end, str(path), *arguments]

    def _inside(self, name: str) -> str:
        """A path that works without the right to walk through the parents of the folder."""
        return f"/proc/self/fd/{self._folder_fd}/{name}" if self._user else str(self.folder / name)

    def _fds(self) -> Sequence[int]:
        return () if self._folder_fd is None else (self._folder_fd,)


def _url(password: str, port: int) -> str:
    return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition: Callable[[], bool], deadline: float) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
