"""The sandbox's process: forked with its engines imported, it locks itself down before it reads anything of anybody's.

The template is started by `spawning` as `python -I -m dataaggregator.dataplane.sandbox.process DESCRIPTOR`.
"""

import os
import socket
import sys

from dataaggregator.dataplane.forking.template import fork_on_request
from dataaggregator.dataplane.sandbox import lockdown
from dataaggregator.dataplane.sandbox.session import serve


def main(end: socket.socket) -> None:
    """Lock down, then serve until the wire closes."""
    if (locked := lockdown.apply_as_told(end)) is not None:
        serve(end, *locked)


if __name__ == "__main__":
    lockdown.readable()
    (wire_end,) = fork_on_request(socket.socket(fileno=int(sys.argv[1]))).held
    main(socket.socket(fileno=wire_end))
    os._exit(0)  # nothing in this process is worth a tidy end
