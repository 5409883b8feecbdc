"""The process of the user's Python: forked with Arrow imported and no engine, locked down before it reads any source.

The template is started by `spawning` as `python -I -m dataaggregator.dataplane.sandbox.python.process DESCRIPTOR`.
"""

import os
import socket
import sys

from dataaggregator.dataplane.forking.template import fork_on_request
from dataaggregator.dataplane.sandbox import lockdown
from dataaggregator.dataplane.sandbox.python.worker import work


def main(end: socket.socket) -> None:
    """Lock down, then answer until the wire closes."""
    if (locked := lockdown.apply_as_told(end)) is not None:
        work(end, locked[1])


if __name__ == "__main__":
    lockdown.readable()
    (wire_end,) = fork_on_request(socket.socket(fileno=int(sys.argv[1]))).held
    main(socket.socket(fileno=wire_end))
    os._exit(0)  # nothing in this process is worth a tidy end
