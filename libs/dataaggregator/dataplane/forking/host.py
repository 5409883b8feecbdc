"""The side of whoever needs processes: a template to fork them from, lent to others too, and a handle on each one."""

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataaggregator.dataplane.forking.template import ENDED, REST, receive
from dataaggregator.errors import Transient

START_SECONDS = 60.0
STDERR_LIMIT_BYTES = 16 << 10
_NUMBER_BYTES = 32
_STUCK = b"stuck"

_log = logging.getLogger(__name__)


class Forked:
    """One process, as if it were a child of this one. It lives no longer than this handle's event loop."""

    def __init__(self, pid: int, status: socket.socket, stderr: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        """As asyncio's: the exit code, or the number of the signal that ended it, negative."""
        self._ending = asyncio.create_task(self._end(status), name=f"process-end-{pid}")
        self._ending.add_done_callback(lambda _: status.close())

    async def wait(self) -> int:
        """Until it has ended; gives the return code."""
        return await asyncio.shield(self._ending)

    def kill(self) -> None:
        """End it now, unless it has ended."""
        if self.returncode is None:  # its number is not given to another process before the status channel is closed
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _end(self, status: socket.socket) -> int:
        said = await _receive(status)
        # Without a word the template is gone, and has taken the process with it.
        self.returncode = int(said.removeprefix(ENDED)) if said else -signal.SIGKILL
        return self.returncode


async def _receive(status: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(status, _NUMBER_BYTES)
    except ConnectionError:
        return b""


class Forks(ABC):
    """What a process can be had from."""

    async def fork(self, folder: Path, *held: int, environment: Mapping[str, str] | None = None) -> Forked:
        """A process at work in `folder` that holds these descriptors; raises Transient when there is none to be had."""
        request = json.dumps({"folder": str(folder), "environment": environment}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said, stderr = os.pipe()
        with contextlib.ExitStack() as until_born:
            until_born.callback(ours.close)
            pipe = until_born.enter_context(os.fdopen(said, "rb", buffering=0))
            try:
                await self._send(request, (theirs.fileno(), stderr, *held))
            except OSError as error:
                raise _not_started(error.strerror or str(error)) from error
            finally:
                theirs.close()
                os.close(stderr)
            ours.setblocking(False)
            pid, reader = await self._number(ours), await _reader(pipe)
            until_born.pop_all()
        return Forked(pid, ours, reader)

    async def _number(self, status: socket.socket) -> int:
        try:
            async with asyncio.timeout(START_SECONDS):
                said = await _receive(status)
        except TimeoutError:
            with contextlib.suppress(OSError):
                await self._send(_STUCK, ())
            raise _not_started(f"none came within {START_SECONDS:.0f} s") from None
        if not said:
            raise _not_started("its template has ended")
        if said.startswith(ENDED):
            raise _not_started("it ended before it had begun")
        if (number := int(said)) < 0:
            raise _not_started(os.strerror(-number))
        return number

    @abstractmethod
    async def _send(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Raises OSError when nobody is there to read it."""


def _not_started(why: str) -> Transient:
    return Transient("run-process-lost", f"A process of a run cannot be started: {why}.")


class Lent(Forks):
    """The template of another process, over the channel that it lent."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    async def _send(self, request: bytes, descriptors: Sequence[int]) -> None:
        socket.send_fds(self._channel, [request], descriptors)


class Template(Forks):
    """Started at the first need, and again when it has ended, rests or is stuck. What it forked ends with it."""

    def __init__(self, module: str, *options: str, environment: Mapping[str, str], folder: Path) -> None:
        self._command = (sys.executable, *options, "-m", module)
        self._environment = environment
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._ending: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._asked_at = 0.0
        self._lent: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The template's own, once it was needed."""
        return self._process.pid if self._process is not None else None

    def lend(self) -> socket.socket:
        """A channel for another process. It hangs up by ending."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        task = asyncio.create_task(self._forward(ours), name="template-lent")
        self._lent.add(task)
        task.add_done_callback(self._lent.discard)
        task.add_done_callback(lambda _: ours.close())
        return theirs

    async def rest(self, idle_seconds: float) -> None:
        """End it where nothing was asked of it for so long, and nothing that it forked is at work."""
        async with self._starting:  # what is asked of it meanwhile is asked of the next one, if it ends
            if self._channel is None or time.monotonic() - self._asked_at < idle_seconds:
                return
            self._asked_at = time.monotonic()
            with contextlib.suppress(OSError, TimeoutError):
                self._channel.send(REST)
                async with asyncio.timeout(START_SECONDS):
                    if await _receive(self._channel):
                        return
            await self._end()

    async def close(self) -> None:
        """End it, with every process that it forked."""
        for task in list(self._lent):
            task.cancel()
        await asyncio.gather(*self._lent, return_exceptions=True)
        await self._end()

    async def _forward(self, channel: socket.socket) -> None:
        while True:
            await _readable(channel)
            request, descriptors = receive(channel)
            if not request:
                return
            try:
                await self._send(request, descriptors)
            except OSError as error:  # who asked learns it by the status channel, which is closed with the others
                _log.error("a process of a run cannot be started: %s", error)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    async def _send(self, request: bytes, descriptors: Sequence[int]) -> None:
        async with self._starting:
            if request == _STUCK:
                await self._end()  # everybody else who waits for it learns that it has ended, and asks no more
                return
            self._asked_at = time.monotonic()
            try:
                socket.send_fds(await self._at_work(), [request], descriptors)
            except ConnectionError:
                await self._end()
                socket.send_fds(await self._at_work(), [request], descriptors)

    async def _at_work(self) -> socket.socket:
        if self._channel is not None and self._process is not None and self._process.returncode is None:
            return self._channel
        await self._end()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                env=self._environment,
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        self._ending = asyncio.create_task(_tell_end(self._process), name="template-end")
        return self._channel

    async def _end(self) -> None:
        """Whatever is left of the last one."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._ending is not None:
            await self._ending
        if self._channel is not None:
            self._channel.close()
        self._process, self._channel, self._ending = None, None, None


async def _tell_end(process: asyncio.subprocess.Process) -> None:
    if said := await last_words(process.stderr):
        _log.error("the template of processes %s said: %s", process.pid, said.strip())


async def last_words(stream: asyncio.StreamReader | None) -> str:
    """What a process said on stderr, at most so much of it; the rest is read and dropped."""
    said = b""
    while stream is not None and (chunk := await stream.read(4096)):
        said = (said + chunk)[:STDERR_LIMIT_BYTES]
    return said.decode(errors="replace")


class _ToTheEnd(asyncio.StreamReaderProtocol):
    """Of a pipe: one side can end alone only where there are two, and uvloop would keep it open for that."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _reader(pipe: io.FileIO) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: _ToTheEnd(reader), pipe)
    return reader


async def _readable(channel: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(channel, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel)
