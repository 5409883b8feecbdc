"""A private RabbitMQ: its own node, name service, folder, loopback ports and password."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from dataaggregator.errors import Permanent
from deploy.local import debian
from deploy.local.process import ServerProcess, free_ports, make_private, write_private

USER = "dataaggregator"
MEMORY_BYTES = 512 * 1024**2
NODE = "rabbit@localhost"
START_SECONDS = 90.0
CALL_SECONDS = 20.0
INSTALLED = Path("/")
SCRIPT = "usr/lib/rabbitmq/bin/rabbitmq-server"
ERLANG = "usr/lib/erlang"
PARTS = r"erlang-.*|libsctp.*"
SERIES = {"3": "bookworm", "4": "trixie"}
"""Debian's release in which each series of RabbitMQ is: 3.10 and 4.0."""
# Debian's own `erl` looks for Erlang in /usr/lib only.
ERL = """\
#!/bin/sh
ROOTDIR=$(dirname "$(readlink -f "$0")")/../usr/lib/erlang
BINDIR=$(echo "$ROOTDIR"/erts-*/bin)
EMU=beam PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "$BINDIR/erlexec" "$@"
"""
# Two cores are shared with everything else: no scheduler waits busily, and Erlang's own port is loopback's as well.
ERLANG_OPTIONS = "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
CONFIGURATION = """\
listeners.tcp.default = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
default_user = {user}
default_pass = {password}
loopback_users.guest = true
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = {memory}
"""


@dataclass(frozen=True)
class Broker:
    """Where a RabbitMQ answers, and its administrator. Its text shows no password."""

    amqp_port: int
    management_port: int
    password: str = field(repr=False)
    user: str = USER

    def url(self, vhost: str = "/") -> str:
        """Where to log in, password included. Never to be logged."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.amqp_port}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str:
        """The management API's address, without the password."""
        return f"http://127.0.0.1:{self.management_port}"

    def make_vhost(self, name: str) -> str:
        """Make a virtual host that the administrator may use; returns the URL to log in."""
        self.call("PUT", f"/api/vhosts/{quote(name, safe='')}")
        every = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"/api/permissions/{quote(name, safe='')}/{self.user}", every)
        return self.url(name)

    def drop_vhost(self, name: str) -> None:
        """Drop a virtual host with all that is in it; its connections are closed."""
        self.call("DELETE", f"/api/vhosts/{quote(name, safe='')}")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the management API; returns the JSON that it answers, or None."""
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310  (it begins with http://127.0.0.1)
            self.management_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=CALL_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def takes_connections(self) -> bool:
        """Whether it answers an AMQP greeting, and its management API a call."""
        try:
            with socket.create_connection(("127.0.0.1", self.amqp_port), timeout=2) as wire:
                wire.sendall(b"AMQP\x00\x00\x09\x01")
                if wire.recv(1) != b"\x01":
                    return False
            self.call("GET", "/api/whoami")
        except (OSError, urllib.error.URLError):
            return False
        return True


class PrivateRabbit:
    """One broker in ``folder`` (made when it is not there), the same node at every start: queues and ports stay.

    It ends when the thread that called `start` ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.ports: dict[str, int] = {}
        """Every port it listens on, by what for; known from the first start on."""
        self._password = ""
        self._names: ServerProcess | None = None
        self._node: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def broker(self) -> Broker:
        """Where it answers."""
        return Broker(self.ports["amqp"], self.ports["management"], self._password)

    @property
    def pids(self) -> list[int]:
        """The node's process and its name service's, while they run."""
        return [one.pid for one in (self._node, self._names) if one is not None and one.is_alive()]

    def url(self, vhost: str = "/") -> str:
        """Where to log in, password included. Never to be logged."""
        return self.broker.url(vhost)

    @property
    def management_url(self) -> str:
        """The management API's address, without the password."""
        return self.broker.management_url

    def make_vhost(self, name: str) -> str:
        """Make a virtual host; returns the URL to log in."""
        return self.broker.make_vhost(name)

    def drop_vhost(self, name: str) -> None:
        """Drop a virtual host with all that is in it."""
        self.broker.drop_vhost(name)

    def start(self) -> Broker:
        """Start it (about ten seconds) and return where it answers when it takes connections."""
        self.launch()
        return self.wait()

    def launch(self) -> None:
        """Start it without waiting."""
        programs = rabbitmq_programs()
        self._prepare()
        environment = self._environment(programs)
        if self._names is None or not self._names.is_alive():
            epmd = next((programs / ERLANG).glob("erts-*/bin/epmd"))
            arguments = [str(epmd), "-address", "127.0.0.1", "-port", str(self.ports["epmd"])]
            self._names = ServerProcess(arguments, environment, self.folder / "epmd.log")
        self._node = ServerProcess([str(programs / SCRIPT)], environment, self.folder / "output.log")

    def wait(self) -> Broker:
        """Return where it answers when it takes connections."""
        try:
            self._running().wait_until(self.broker.takes_connections, "RabbitMQ", START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self.broker

    def kill(self) -> None:
        """End the node as a power cut would; its name service stays for the next start."""
        self._running().kill()

    def stop(self) -> None:
        """End the node and its name service: what was confirmed is on the disk."""
        for process in (self._node, self._names):
            if process is not None:
                process.kill()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nobody answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._running().signal(signal.SIGCONT)

    def alarm(self) -> None:
        """Raise the memory alarm: publishers are blocked until it is cleared."""
        self._evaluate("vm_memory_monitor set_vm_memory_high_watermark [0.0]")

    def clear_alarm(self) -> None:
        """Let publishers go on."""
        self._evaluate(f"vm_memory_monitor set_vm_memory_high_watermark [{{absolute,{MEMORY_BYTES}}}]")

    def _running(self) -> ServerProcess:
        if self._node is None:
            raise RuntimeError("the broker was not started")
        return self._node

    def _evaluate(self, call: str) -> None:
        programs = rabbitmq_programs()
        erl_call = next((programs / ERLANG).glob("erts-*/bin/erl_call"))
        done = subprocess.run(
            [str(erl_call), "-sname", NODE, "-a", call],
            env=self._environment(programs),
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        if done.returncode != 0 or "error" in done.stdout:
            raise RuntimeError(f"{call}: {done.stdout} {done.stderr}")

    def _prepare(self) -> None:
        """Ports, password, cookie and configuration, made at the first start and kept."""
        make_private(self.folder)
        known = self.folder / "broker.json"
        if not known.exists():
            names = ("amqp", "management", "prometheus", "distribution", "epmd")
            ports = dict(zip(names, free_ports(len(names)), strict=True))
            write_private(known, json.dumps({"ports": ports, "password": secrets.token_urlsafe(24)}))
            write_private(self.folder / ".erlang.cookie", secrets.token_hex(32), 0o400)
            write_private(self.folder / "enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n")
            for name in ("data", "logs", "conf.d"):
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        kept = json.loads(known.read_text())
        self.ports, self._password = kept["ports"], kept["password"]
        text = CONFIGURATION.format(**self.ports, user=USER, password=self._password, memory=MEMORY_BYTES)
        write_private(self.folder / "rabbitmq.conf", text)

    def _environment(self, programs: Path) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": f"{programs}/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
            "LD_LIBRARY_PATH": "" if programs == INSTALLED else debian.library_path(programs),
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "true",  # the start script becomes the node instead of waiting beside it
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.ports["amqp"]),
            "RABBITMQ_DIST_PORT": str(self.ports["distribution"]),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_OPTIONS,
        }


def rabbitmq_programs() -> Path:
    """The folder below which RabbitMQ's and Erlang's programs lie: the machine's own, or fetched.

    `RABBITMQ_SERIES` asks for one of the SERIES, whatever the machine has.
    """
    series = os.environ.get("RABBITMQ_SERIES")
    if series:
        if series not in SERIES:
            known = " or ".join(SERIES)
            raise Permanent("server-not-installed", f"RABBITMQ_SERIES is {series}: give {known}, or leave it out.")
        return debian.fetch("rabbitmq-server", PARTS, _add_erl, release=SERIES[series])
    if (INSTALLED / SCRIPT).exists() and shutil.which("erl"):
        return INSTALLED
    return debian.fetch("rabbitmq-server", PARTS, _add_erl)


def _add_erl(root: Path) -> None:
    (root / "bin").mkdir()
    erl = root / "bin/erl"
    erl.write_text(ERL)
    erl.chmod(0o755)
