"""What `doctor` asks of the machine: Python, the kernel, the disk, the certificate, the ports."""

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dataaggregator.cli.doctor.finding import Finding, doubtful, ill, well
from dataaggregator.clock import Clock
from dataaggregator.contracts.kernel import KernelFacts
from dataaggregator.http.tls import ServerTls
from dataaggregator.settings import Settings, SettingsError, variable

OLDEST_PYTHON, FIRST_UNTRIED = (3, 11), (3, 14)
GIB = 1024**3
SCARCE_BYTES, LITTLE_BYTES = GIB, 10 * GIB
"""Below the first nothing goes well; the second is what one sandbox may spill."""


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    said = ".".join(str(part) for part in version)
    if OLDEST_PYTHON <= version[:2] < FIRST_UNTRIED:
        return well("python", said)
    return ill("python", f"{said}; the platform needs 3.11 to 3.13", "python-unsupported")


def kernel(facts: KernelFacts) -> Finding:
    """Whether a sandbox can be locked at the level asked for."""
    if not facts.missing:
        used = ", ".join(part.name for part in facts.parts if part.used)
        return well("kernel", f"SANDBOX={facts.level} is held by {used}")
    lacks = " ".join(f"{part.name}: {part.detail}. {part.cure}" for part in facts.missing)
    if facts.sound:
        return doubtful("kernel", f"SANDBOX={facts.level} goes on without {lacks}", "sandbox-unavailable")
    return ill("kernel", f"SANDBOX={facts.level} refuses to run steps. {lacks}", "sandbox-unavailable")


def disk(home: Path, scarce: int = SCARCE_BYTES, little: int = LITTLE_BYTES) -> Finding:
    """The folder in which runs spill, spool and keep what they reject, or where it would be made."""
    there = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return ill("disk", f"{there} cannot be written to: {error.strerror}", "folder-not-writable")
    free = shutil.disk_usage(there).free
    said = f"{free / GIB:.1f} GiB free below {there}"
    if free < scarce:
        return ill("disk", said, "disk-low")
    return doubtful("disk", said, "disk-low") if free < little else well("disk", said)


def certificate(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Of TLS towards callers, where one is set: what would stop the gateway."""
    try:
        if ServerTls.of(settings, clock) is not None:
            yield well("tls", f"{settings.tls_certificate} is valid now, and TLS_KEY fits to it")
    except SettingsError as error:
        yield ill("tls", str(error), "settings-invalid")


def ports(settings: Settings, running: str | None) -> Iterator[Finding]:
    """Those that would be listened on; `running` is the address at which our own platform answers already."""
    names = ["gateway"]
    if settings.rabbitmq_url is not None:
        names += ["auth", "connectors", "executor", "scheduler"]
    for name in names:
        host = settings.gateway_host if name == "gateway" else settings.services_host
        port = getattr(settings, f"{name}_port")
        setting = f"{variable(f'{name}_port')}={port}"
        if running is not None or port == 0 or is_free(host, port):
            yield well("port", f"{setting} is {'ours' if running is not None else 'free'}")
        else:
            yield doubtful("port", f"{setting} is taken on {host}, by our own service or by another", "port-in-use")


def is_free(host: str, port: int) -> bool:
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            end.bind(address)
        except OSError:
            return False
    return True
