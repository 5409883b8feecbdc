"""Nothing leads out: not Python inside the lock, not SQL, not what the process was given."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.errors import PlatformError

pytestmark = pytest.mark.security

# Run inside the lock: each line must end in an OSError; what does not is printed.
_ATTEMPTS = """
import ctypes, os, socket, sys, threading
from pathlib import Path
from dataaggregator.dataplane.sandbox import lockdown
spill, secret, victim = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
lockdown.apply(lockdown.Lock(spill, 1 << 30, 60, 1 << 20, True))
libc = ctypes.CDLL(None, use_errno=True)

def raw(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

attempts = {
    "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(16, socket.SOCK_RAW),
    "passwd": lambda: open("/etc/passwd"),
    "secret": lambda: open(secret),
    "secret by a link": lambda: (os.symlink(secret, spill / "link"), open(spill / "link")),
    "environment of others": lambda: open(f"/proc/{victim}/environ"),
    "own memory": lambda: open("/proc/self/mem", "r+b"),
    "write elsewhere": lambda: open("/tmp/escaped", "w"),
    "write to its libraries": lambda: open(os.__file__, "a"),
    "list home": lambda: os.listdir("/root"),
    "list temporary files": lambda: os.listdir("/tmp"),
    "change a mode": lambda: os.chmod(secret, 0o777),
    "change a time": lambda: os.utime(secret),
    "remove": lambda: os.unlink(secret),
    "rename out": lambda: (open(spill / "f", "w").close(), os.rename(spill / "f", "/tmp/escaped")),
    "named pipe": lambda: os.mkfifo(spill / "pipe"),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "kill": lambda: os.kill(victim, 0),
    "kill the group": lambda: os.kill(0, 0),
    "raise a limit": lambda: __import__("resource").setrlimit(0, (-1, -1)),
    "limit others": lambda: __import__("resource").prlimit(victim, 0, (1, 1)),
    "ptrace": lambda: raw(101, 16, victim, 0, 0),
    "read memory": lambda: raw(310, victim, 0, 0, 0, 0, 0),
    "unshare": lambda: raw(272, 0x10000000),
    "mount": lambda: raw(165, b"none", b"/mnt", b"tmpfs", 0, 0),
    "bpf": lambda: raw(321, 0, 0, 0),
    "keyctl": lambda: raw(250, 0, 0, 0),
    "io_uring": lambda: raw(425, 1, 0),
    "perf": lambda: raw(298, 0, 0, -1, -1, 0),
    "memfd": lambda: raw(319, b"x", 0),
    "userfaultfd": lambda: raw(323, 0),
    "new namespace by clone": lambda: raw(56, 0x10000000, 0, 0, 0, 0),
    "clone3": lambda: raw(435, 0, 0),
    "open a process": lambda: raw(434, victim, 0),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, ValueError):  # setrlimit gives EPERM that name
        continue
    print("OUT:", name)
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
(spill / "mine").write_text("kept")
assert (spill / "mine").read_text() == "kept"
assert dict(os.environ).keys() <= {"LC_CTYPE"}, dict(os.environ)
print("tried", len(attempts))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the raw calls are named by this machine's numbers")
async def test_nothing_inside_the_lock_leads_out(tmp_path: Path) -> None:
    spill, secret = tmp_path / "spill", tmp_path / "secret"
    spill.mkdir()
    secret.write_text("canary")
    said = await _python(_ATTEMPTS, str(spill), str(secret), str(os.getpid()))
    assert said == "tried 38", said
    assert secret.read_text() == "canary"


async def test_x32_calls_end_the_process(tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        return
    code = (
        "import ctypes, sys, pathlib\n"
        "from dataaggregator.dataplane.sandbox import lockdown\n"
        "lockdown.apply(lockdown.Lock(pathlib.Path(sys.argv[1]), 1 << 30, 60, 1 << 20, True))\n"
        "ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))\n"
        "print('still here')\n"
    )
    assert await _python(code, str(tmp_path)) == "ended by signal 31"


async def test_strict_refuses_where_the_kernel_lacks_a_part_and_basic_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from dataaggregator.dataplane.sandbox import landlock, lockdown\n"
        "landlock.abi = lambda: 0\n"
        "lock = lockdown.Lock(pathlib.Path(sys.argv[1]), 1 << 30, 60, 1 << 20, sys.argv[2] == 'strict')\n"
        "try:\n"
        "    print(lockdown.apply(lock).missing)\n"
        "except lockdown.LockdownError as error:\n"
        "    print('refused:', error)\n"
    )
    assert (await _python(code, str(tmp_path), "strict")).startswith("refused: the kernel lacks Landlock")
    assert "Landlock" in await _python(code, str(tmp_path), "basic")


async def _python(code: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", code, *arguments,
        env={}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    status = process.returncode or 0
    return f"ended by signal {-status}" if status < 0 else said.decode().strip()


async def test_the_process_holds_one_wire_and_nothing_else(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    leak = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leak, True)
    sandbox = await start()
    os.close(leak)
    process = Path(f"/proc/{sandbox.pid}")
    if os.geteuid() != 0:  # it cannot be looked into by its own user either, which is more than is asked here
        with pytest.raises(PermissionError):
            (process / "environ").read_bytes()
        return
    assert b"canary" not in (process / "environ").read_bytes()
    assert b"canary" not in (process / "cmdline").read_bytes()
    held = {int(link.name): str(link.readlink()) for link in (process / "fd").iterdir()}
    assert {held[0], held[1]} == {"/dev/null"}
    assert held.pop(2).startswith("pipe:")
    others = [name for at, name in held.items() if at > 2]
    assert len([name for name in others if name.startswith("socket:")]) == 1
    assert not [name for name in others if "hostname" in name]
    status = (process / "status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "CapEff:\t0000000000000000" in status


# One of the same user with none of root's powers, who waits or looks.
NEIGHBOUR = """\
import sys
from dataaggregator.dataplane.sandbox import kernel
kernel.drop_capabilities()
print("here", flush=True)
for pid in sys.stdin:
    try:
        open(f"/proc/{pid.strip()}/environ", "rb").read()
        print("seen", flush=True)
    except PermissionError:
        print("refused", flush=True)
"""


async def neighbour() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", NEIGHBOUR, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"here\n"
    return process


async def test_no_neighbour_of_the_same_user_looks_into_it(start: Any) -> None:
    """As it could into any other process: who is root here as well, while it has nothing of what root may."""
    sandbox = await start()
    looking, other = await neighbour(), await neighbour()
    told, _ = await looking.communicate(f"{other.pid}\n{sandbox.pid}\n".encode())
    other.kill()
    await other.wait()
    assert told.split() == [b"seen", b"refused"]


@pytest.mark.parametrize(
    "step",
    [
        {"sql": "select * from read_csv('/etc/passwd')"},
        {"sql": "select * from '/etc/passwd'"},
        {"derive": {"x": "1) from read_text('/proc/self/environ') --"}},
        {"derive": {"x": "getenv('SECRET_KEY')"}},
    ],
)
async def test_sql_leads_nowhere_even_when_nobody_compiled_it(run: Any, step: Any) -> None:
    with pytest.raises(PlatformError) as caught:
        await run([step])
    assert caught.value.code == "definition-invalid"
