"""Processes forked from a template: each its own, its end told as it was, none outliving whom it works for."""

import ast
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from dataaggregator.dataplane.forking import host
from dataaggregator.dataplane.forking.host import Forked, Forks, Lent, Template, last_words
from dataaggregator.dataplane.forking.template import _Template
from dataaggregator.errors import Transient

ROOT = Path(__file__).parents[3]


@dataclass
class Born:
    """A process and our end of its wire."""

    process: Forked
    wire: socket.socket

    async def tell(self, asked: str) -> object:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.wire, asked.encode())
        return ast.literal_eval((await loop.sock_recv(self.wire, 64 << 10)).decode())

    async def ended_by(self, asked: str) -> int:
        await asyncio.get_running_loop().sock_sendall(self.wire, asked.encode())
        return await self.process.wait()


def template_in(folder: Path, module: str = "tests.unit.dataplane.forked", **environment: str) -> Template:
    return Template(module, environment={"PYTHONPATH": str(ROOT), **environment}, folder=folder)


@pytest.fixture(scope="module")
async def template(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Template]:
    template = template_in(tmp_path_factory.mktemp("template"))
    yield template
    await template.close()


@asynccontextmanager
async def born(forks: Forks, folder: Path) -> AsyncIterator[Born]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours:
        with theirs:
            process = await forks.fork(folder, theirs.fileno())
        yield Born(process, ours)
        process.kill()
        await process.wait()
        await last_words(process.stderr)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


async def gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110, ASYNC240 - another process gives no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("os._exit(7)", 7),
        ("os._exit(0)", 0),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), 24)", -signal.SIGXCPU),
    ],
)
async def test_how_it_ended_is_told_as_of_a_child_of_ones_own(
    template: Template, tmp_path: Path, asked: str, code: int
) -> None:
    async with born(template, tmp_path) as one:
        assert await one.ended_by(asked) == code
        assert one.process.returncode == code
    await gone(one.process.pid)


async def test_its_last_words_are_its_own(template: Template, tmp_path: Path) -> None:
    async with born(template, tmp_path) as one, born(template, tmp_path) as other:
        assert await one.ended_by("1 / 0") == 1
        assert "ZeroDivisionError" in await last_words(one.process.stderr)
        assert await other.ended_by("os._exit(0)") == 0
        assert await last_words(other.process.stderr) == ""


async def test_it_holds_its_streams_and_what_it_was_given_and_nothing_of_others(
    template: Template, tmp_path: Path
) -> None:
    held = "{n: os.readlink(at) for n in range(99) if os.path.lexists(at := f'/proc/self/fd/{n}')}"
    async with born(template, tmp_path), born(template, tmp_path) as one:
        told = await one.tell(held)
        assert isinstance(told, dict)
        assert len(told) == 4
        assert told[0] == told[1] == "/dev/null"
        assert [str(told[number]).split(":")[0] for number in sorted(told)[2:]] == ["pipe", "socket"]


async def test_it_stands_in_its_folder_and_in_a_session_of_its_own(template: Template, tmp_path: Path) -> None:
    async with born(template, tmp_path) as one:
        pid = one.process.pid
        assert await one.tell("os.getcwd(), os.getpid(), os.getsid(0), os.getpgid(0)") == (str(tmp_path), *[pid] * 3)


@pytest.mark.parametrize("asked", ["random.random()", "__import__('secrets').token_hex()", "str(uuid.uuid4())"])
async def test_two_of_them_draw_different_numbers(template: Template, tmp_path: Path, asked: str) -> None:
    async with born(template, tmp_path) as one, born(template, tmp_path) as other:
        assert await one.tell(asked) != await other.tell(asked)


async def test_it_is_ended_when_whom_it_works_for_has_ended(template: Template, tmp_path: Path) -> None:
    """A killed process closes its status channels without a word."""
    (status, theirs), (wire, end) = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
    async with born(template, tmp_path) as other:
        with wire, status, template.lend() as channel:
            with theirs, end:
                socket.send_fds(channel, [b'{"folder": "/"}'], [theirs.fileno(), 2, end.fileno()])
            status.setblocking(False)
            pid = int(await asyncio.get_running_loop().sock_recv(status, 32))
            status.close()
            await gone(pid)
        assert await other.tell("1 + 1") == 2


async def test_what_a_template_forked_ends_with_it_and_there_is_another(tmp_path: Path) -> None:
    template = template_in(tmp_path)
    try:
        async with born(template, tmp_path) as one:
            first = template.pid
            assert first is not None
            with template.lend() as channel:
                os.kill(first, signal.SIGKILL)
                while state_of(first) not in {"Z", "gone"}:
                    pass  # as long as nothing else is done here, nobody has been told yet
                async with born(Lent(channel), tmp_path) as another:
                    assert await another.tell("1 + 1") == 2
                    assert template.pid != first
            assert await one.process.wait() == -signal.SIGKILL
            await gone(one.process.pid)
    finally:
        await template.close()
    await gone(another.process.pid)


async def test_who_asks_a_template_that_has_just_died_gets_a_process_of_the_next(tmp_path: Path) -> None:
    template = template_in(tmp_path)
    try:
        async with born(template, tmp_path):
            dead = template.pid
        assert dead is not None
        os.kill(dead, signal.SIGKILL)
        async with asyncio.timeout(10):
            while state_of(dead) not in ("Z", "gone"):  # noqa: ASYNC110 (it happens in the kernel)
                await asyncio.sleep(0.001)
        async with born(template, tmp_path) as one:
            assert (await one.tell("os.getppid()"), template.pid != dead) == (template.pid, True)
    finally:
        await template.close()


async def test_a_template_rests_when_nobody_needs_it_and_comes_again(tmp_path: Path) -> None:
    template = template_in(tmp_path)
    try:
        async with born(template, tmp_path) as one:
            first = template.pid
            assert first is not None
            await template.rest(0)
            assert (template.pid, await one.tell("1 + 1")) == (first, 2), "while it is needed"
        await gone(one.process.pid)
        await template.rest(3600)
        assert template.pid == first, "as long as somebody may need it again"
        await template.rest(0)
        assert template.pid is None
        await gone(first)
        async with born(template, tmp_path) as one:
            assert await one.tell("1 + 1") == 2
    finally:
        await template.close()


async def test_a_template_ends_with_its_owner_even_when_it_looks_at_nothing(tmp_path: Path) -> None:
    code = f"""
import asyncio, pathlib
from tests.unit.dataplane.test_forking import template_in
async def main():
    template = template_in(pathlib.Path({str(tmp_path)!r}))
    await (await template.fork(pathlib.Path("/"))).wait()
    print(template.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    owner.kill()
    await owner.wait()
    await gone(pid)


def test_a_template_that_is_started_for_another_process_holds_nothing_of_it(tmp_path: Path) -> None:
    """The loop of our services does not close what a program inherits."""

    async def ended() -> str:
        template = template_in(tmp_path)
        with template.lend() as channel:
            process = await Lent(channel).fork(tmp_path)
            await process.wait()
            async with asyncio.timeout(10):
                said = await last_words(process.stderr)
        await template.close()
        return said

    assert "not enough values to unpack" in uvloop.run(ended())


async def test_a_template_that_is_stuck_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = template_in(tmp_path)
    try:
        async with born(template, tmp_path):
            first = template.pid
        assert first is not None
        monkeypatch.setattr(host, "START_SECONDS", 0.2)
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(Transient, match="none came within"):
            await template.fork(tmp_path)
        monkeypatch.undo()
        async with born(template, tmp_path) as one:
            assert await one.tell("1 + 1") == 2
        await gone(first)
    finally:
        await template.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: template_in(folder, NO_MORE_PROCESSES="1"), "Resource temporarily unavailable"),
        (lambda folder: template_in(folder, NO_SESSION="1"), "it ended before it had begun"),
        (lambda folder: template_in(folder, "tests.no_such_module"), "its template has ended"),
        (lambda folder: template_in(folder / "nowhere"), "No such file or directory"),
    ],
    ids=["no more processes", "one that fails at once", "no such module", "no such folder"],
)
async def test_a_process_that_cannot_be_started_says_why(
    tmp_path: Path, make: Callable[[Path], Template], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    template = make(tmp_path)
    try:
        with pytest.raises(Transient, match=why) as refused:
            await template.fork(tmp_path)
    finally:
        await template.close()
    assert refused.value.code == "run-process-lost"
    assert ("No module named" in caplog.text) is (why == "its template has ended")


def test_a_template_outlives_who_asked_for_what_it_cannot_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> int:
        raise OSError(errno.EAGAIN, "no more processes")

    channel, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    status, left = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with channel, asking, status, Path(os.devnull).open() as stderr:
        socket.send_fds(asking, [b"{}"], (status.fileno(), stderr.fileno()))
        left.close()
        monkeypatch.setattr(os, "fork", no_more)
        assert _Template(channel)._answer() is None
