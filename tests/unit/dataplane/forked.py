"""A process for tests of forking: it answers Python expressions until its wire is closed."""

import errno
import os
import random  # noqa: F401 (a template has imported what its processes use)
import socket
import sys
import uuid  # noqa: F401
from typing import NoReturn

from dataaggregator.dataplane.forking.template import fork_on_request

TELLS_LITTLE = 64 << 10


def refuse() -> NoReturn:
    raise BlockingIOError(errno.EAGAIN, "no more processes")


if __name__ == "__main__":
    if "NO_MORE_PROCESSES" in os.environ:
        os.fork = refuse
    if "NO_SESSION" in os.environ:
        os.setsid = refuse
    (descriptor,) = fork_on_request(socket.socket(fileno=int(sys.argv[1]))).held
    wire = socket.socket(fileno=descriptor)
    while asked := wire.recv(TELLS_LITTLE):
        wire.send(repr(eval(asked)).encode())  # noqa: S307 (what this process is for)
