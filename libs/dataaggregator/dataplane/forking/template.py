"""The template's own side: one thread of Python, no event loop, nothing opened; it forks for each request.

A request is one message on the channel, with descriptors: the new process's status channel, its stderr, and what it
is to hold. On the status channel the new process tells its number, and the template how it ended. Whoever hangs that
channel up has the process killed; until then the number of one that ended is nobody else's. A request to rest has no
descriptors: the template ends, or says that something it forked is at work.
"""

import array
import contextlib
import gc
import json
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataaggregator.dataplane.sandbox import kernel

ENDED = b"ended "
REST, BUSY = b"rest", b"busy"
REQUEST_BYTES = 64 << 10
MOST_DESCRIPTORS = 8
COLLECT_AFTER_OBJECTS = 10_000
"""Made and not gone again, before circles are looked for: a page of records is thousands, and goes with its batch."""


@dataclass(frozen=True, slots=True)
class Born:
    """What a new process was asked for by, and the descriptors it holds besides its three streams."""

    request: Mapping[str, Any]
    held: Sequence[int]


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    status: socket.socket
    ended: bool = False
    deserted: bool = False


def receive(channel: socket.socket) -> tuple[bytes, Sequence[int]]:
    """The next request and its descriptors, which no program that is started meanwhile inherits; b"" at the end."""
    held = array.array("i")
    room = socket.CMSG_LEN(MOST_DESCRIPTORS * held.itemsize)
    request, ancillary, _, _ = channel.recvmsg(REQUEST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            held.frombytes(data)
    return request, held.tolist()


def fork_on_request(channel: socket.socket) -> Born:
    """Returns in each new process, and in the template never: that one ends when its owner does."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    gc.collect()
    gc.freeze()  # what is here is here for good: no collection in a new process writes to the pages they share
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    return _Template(channel).serve()


class _Template:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pid = os.getpid()
        self._children: dict[int, _Child] = {}
        """By the descriptor that has news: the child's own, or its status channel's."""
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def serve(self) -> Born:
        while True:
            # One at a time: a descriptor that is closed here may have another meaning by the next.
            descriptor, _ = self._poll.poll()[0]
            if (child := self._children.get(descriptor)) is None:
                if (born := self._answer()) is not None:
                    return born
            elif descriptor == child.pidfd:
                self._ended(child)
            else:
                self._deserted(child)

    def _answer(self) -> Born | None:
        request, descriptors = receive(self._channel)
        if not request or (request == REST and not self._children):
            os._exit(0)  # and with this process every one that it forked
        if request == REST:
            self._channel.send(BUSY)
            return None
        status, stderr, *held = descriptors
        told = socket.socket(fileno=status)
        try:
            pid = os.fork()
        except OSError as error:
            with told, contextlib.suppress(OSError):  # nobody may want to know any more
                told.send(str(-(error.errno or 1)).encode())
        else:
            if pid == 0:
                return self._born(json.loads(request), told, stderr, held)
            self._watch(_Child(pid, os.pidfd_open(pid), told))
        for descriptor in (stderr, *held):
            os.close(descriptor)
        return None

    def _watch(self, child: _Child) -> None:
        for descriptor in (child.pidfd, child.status.fileno()):
            self._children[descriptor] = child
            self._poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._children[descriptor]

    def _ended(self, child: _Child) -> None:
        self._forget(child.pidfd)
        os.close(child.pidfd)
        child.ended = True
        if child.deserted:
            os.waitpid(child.pid, 0)
            return
        found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None  # noqa: S101 (None is an answer to WNOHANG)
        with contextlib.suppress(OSError):  # nobody may want to know any more
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            child.status.send(ENDED + str(code).encode())

    def _deserted(self, child: _Child) -> None:
        self._forget(child.status.fileno())
        child.status.close()
        child.deserted = True
        if child.ended:
            os.waitpid(child.pid, 0)
            return
        os.kill(child.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it has not come to have a group yet
            os.killpg(child.pid, signal.SIGKILL)

    def _born(self, request: Mapping[str, Any], told: socket.socket, stderr: int, held: Sequence[int]) -> Born:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(0)  # the template was killed before that could be set
        os.setsid()
        os.dup2(stderr, 2)
        told.send(str(os.getpid()).encode())
        for one in (self._channel, told, *(child.status for child in self._children.values())):
            one.close()
        _close_all_but(held)
        os.chdir(request["folder"])
        return Born(request, held)


def _close_all_but(held: Sequence[int]) -> None:
    for descriptor in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in held:
            with contextlib.suppress(OSError):  # the one that the list was read by
                os.close(descriptor)
