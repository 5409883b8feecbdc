"""A private Docker engine, started by root for a test run and ended with every trace of it."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dataaggregator.embedded import launch
from dataaggregator.errors import Permanent
from deploy.local import debian
from deploy.local.process import make_private

PARTS = (
    r"containerd|runc|iptables|tini|lib(nftnl11|xtables12|ip4tc2|ip6tc2|mnl0|nfnetlink0|netfilter-conntrack3|seccomp2)"
)
CGROUP = "dataaggregator-docker"
START_SECONDS = 60.0
STOP_SECONDS = 90.0
POLL_SECONDS = 0.1
# What the daemon makes outside the folders it is given.
STRAY = (Path("/etc/docker"), Path("/opt/containerd"), Path("/run/docker"))
# Only one engine at a time: rules and networks are the machine's. A socket's path may have no more than 108 characters.
RUN = Path("/run/dataaggregator-docker")
_UNSHARE = "/usr/bin/unshare"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class CommandFailedError(Exception):
    """A command of the client failed; the text is the end of what it said."""


def why_not() -> str | None:
    """Why no engine can be started here; None where one can."""
    if os.geteuid() != 0:
        return "an engine of one's own needs root"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    if any(Path("/sys/class/net").glob("docker*")):
        return "another engine's bridge is there: its rules would mix with ours"
    return None


class DockerEngine:
    """``with DockerEngine(folder) as engine: engine.docker("ps")``; images stay in ``folder``, all else goes.

    No default bridge is made: builds use this machine's network, containers the networks that compose makes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._root = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._held = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def client(self) -> Path:
        """The client's program."""
        return self._root / "usr/bin/docker"

    @property
    def environment(self) -> dict[str, str]:
        """What the client needs to find this engine and its plugins."""
        return {
            **os.environ,
            "DOCKER_HOST": f"unix://{RUN}/docker.sock",
            "DOCKER_CONFIG": str(self.folder / "client"),
            "DOCKER_BUILDKIT": "0",
            "PATH": f"{self._root}/usr/sbin:{self._root}/usr/bin:{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Fetch the programs where they are not there yet, start the daemon, return when it answers."""
        reason = why_not()
        if reason is not None:
            raise Permanent("server-start-failed", f"No Docker engine can be started here: {reason}.")
        make_private(self.folder)
        self._root = debian.fetch("docker.io", PARTS, link_programs)
        if not self.client.exists():  # newer Debians have it in a package of its own
            self.client.symlink_to(debian.fetch("docker-cli", "", _nothing) / "usr/bin/docker")
        self._hold()
        traces = Traces(self._root, self.folder / "before.json")
        traces.note()
        self._held.callback(traces.wipe)
        self._held.callback(self._stop)
        self._launch()
        self._wait()
        self._empty()

    def docker(self, *arguments: str, seconds: float = 120.0, stdin: bytes | None = None) -> str:
        """What a command of the client says; raises with the end of its output where it fails."""
        done = self.run([str(self.client), *arguments], seconds=seconds, stdin=stdin)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-25:]
            raise CommandFailedError(f"docker {' '.join(arguments[:6])} failed:\n" + "\n".join(said))
        return done.stdout.decode()

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float = 120.0,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[bytes]":
        """A command with this engine's environment, however it ends."""
        return subprocess.run(
            command,
            env={**self.environment, **(environment or {})},
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    def has_image(self, name: str) -> bool:
        """Whether an image of that name is there."""
        return bool(self.docker("images", "--quiet", name).strip())

    def add_plugin(self, program: Path) -> None:
        """Let the client find a plugin such as compose."""
        folder = self.folder / "client/cli-plugins"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(program, folder / program.name)

    def _hold(self) -> None:
        """A folder for sockets and running containers, ours as long as we hold its lock."""
        lock = self._held.enter_context(RUN.with_suffix(".lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            detail = f"Another engine of ours runs on this machine: {lock.name} is held."
            raise Permanent("server-start-failed", detail) from error
        shutil.rmtree(RUN, ignore_errors=True)
        RUN.mkdir(mode=0o700)
        self._held.callback(shutil.rmtree, RUN, ignore_errors=True)

    def _launch(self) -> None:
        command = [
            *("dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(RUN / "exec")),
            *("--host", f"unix://{RUN}/docker.sock", "--pidfile", str(RUN / "docker.pid")),
            *("--bridge", "none", "--cgroup-parent", f"/{CGROUP}", "--oom-score-adjust", "0"),
            *("--default-ulimit", "nofile=1024:20000", "--log-level", "warn"),
        ]
        libraries = debian.library_path(self._root)
        modules = next(iter(sorted(self._root.glob("usr/lib/*/xtables"))), self._root)
        # Its mounts are in a namespace of its own and go with it. SIGTERM: killed it would leave its containers.
        lifeline = ["-1", "-1", str(os.getpid()), str(int(signal.SIGTERM))]
        with (self.folder / "dockerd.log").open("wb") as sink:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", str(launch.__file__), *lifeline),
                    *(_UNSHARE, "--mount", "--propagation", "private", *command),
                ],
                env={**self.environment, "LD_LIBRARY_PATH": libraries, "XTABLES_LIBDIR": str(modules)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.run([str(self.client), "version"]).returncode != 0:
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self.folder / "dockerd.log").read_text(errors="replace").splitlines()[-5:]
                raise Permanent("server-start-failed", f"The Docker engine did not start: {' / '.join(tail)}")
            time.sleep(POLL_SECONDS)

    def _empty(self) -> None:
        """No container, volume or network of an earlier run that was killed."""
        for kind, listing in (("container", ["ps", "--all", "--quiet"]), ("volume", ["volume", "ls", "--quiet"])):
            there = self.docker(*listing).split()
            if there:
                self.docker(kind, "rm", "--force", *there)
        self.docker("network", "prune", "--force")
        # What was built is kept for the next run, but not what nothing has used for days.
        self.docker("image", "prune", "--force", "--filter", "until=72h")

    def _stop(self) -> None:
        if self._process is None:
            return
        with suppress(CommandFailedError, subprocess.TimeoutExpired):
            self._empty()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)


class Traces:
    """What an engine changes on the machine beside its folders; noted before, put back after.

    The note is a file, so that a run that was killed is cleaned up after by the next one.
    """

    def __init__(self, root: Path, note: Path) -> None:
        self._root = root
        self._note = note

    def note(self) -> None:
        """Write down how it is now, unless an earlier run has and did not come to wiping."""
        if self._note.exists():
            return
        before = {
            "rules": self.rules(),
            "forwarding": FORWARDING.read_text(),
            "stray": [str(path) for path in STRAY if path.exists()],
        }
        self._note.write_text(json.dumps(before))

    def wipe(self) -> None:
        """Put rules, forwarding, stray files and control groups back to how they were."""
        before = json.loads(self._note.read_text())
        self._restore(before["rules"])
        FORWARDING.write_text(before["forwarding"])
        for path in STRAY:
            if str(path) not in before["stray"]:
                shutil.rmtree(path, ignore_errors=True)
        for group in Path("/sys/fs/cgroup").glob(f"**/{CGROUP}"):
            for inner in sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True):
                with suppress(OSError):
                    inner.rmdir()
            with suppress(OSError):
                group.rmdir()
        self._note.unlink()

    def rules(self) -> str:
        """The firewall's rules, without counts of packets."""
        return re.sub(r" \[\d+:\d+\]", "", self._tables("iptables-save", ""))

    def _restore(self, before: str) -> None:
        """Every table as it was; one that was not there before is emptied."""
        held = {line[1:] for line in before.splitlines() if line.startswith("*")}
        now = self.rules()
        emptied, table = [], ""
        for line in now.splitlines():
            if line.startswith("*"):
                table = line[1:]
            if table in held:
                continue
            if line.startswith("*") or line == "COMMIT":
                emptied.append(line)
            elif line.startswith(":") and not line.endswith(" -"):
                chain = line.split()[0]
                emptied.append(f"{chain} ACCEPT")
        self._tables("iptables-restore", before + "\n".join(emptied) + "\n")

    def _tables(self, program: str, text: str) -> str:
        done = subprocess.run(
            [str(self._root / "usr/sbin/xtables-nft-multi"), program],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": debian.library_path(self._root),
                "XTABLES_LIBDIR": str(next(iter(sorted(self._root.glob("usr/lib/*/xtables"))), self._root)),
            },
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise Permanent("server-start-failed", f"{program} says: {done.stderr.strip()}")
        return "".join(line + "\n" for line in done.stdout.splitlines() if not line.startswith("#"))


def link_programs(root: Path) -> None:
    """Debian makes these names when a package is installed, which it is not here."""
    for name in ("iptables", "ip6tables", "iptables-save", "iptables-restore"):
        link = root / "usr/sbin" / name
        if not link.exists():
            link.symlink_to("xtables-nft-multi")


def _nothing(root: Path) -> None:
    """The package is complete as it is."""
