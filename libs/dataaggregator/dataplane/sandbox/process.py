"""The untrusted process: reads its limits, locks itself down, only then imports engines, and answers frames.

With a spill folder it is the sandbox, without one the process of the user's Python.
Started by `spawning` as `python -I -m dataaggregator.dataplane.sandbox.process DESCRIPTOR`.
"""

import os
import socket
import sys
from pathlib import Path

from dataaggregator.dataplane.sandbox import lockdown, wire


def main() -> int:
    """Lock down, then serve until the wire closes."""
    end = socket.socket(fileno=int(sys.argv[1]))
    frame = wire.receive(end)
    if frame is None:
        return 0
    limits = frame.header
    spill = Path(limits["spill"]) if limits["spill"] else None
    lock = lockdown.Lock(spill, limits["memory_bytes"], limits["cpu_seconds"], limits["spill_bytes"], limits["strict"])
    try:
        facts = lockdown.apply(lock)
    except lockdown.LockdownError as error:
        wire.send(end, {"kind": "error", "code": "sandbox-unavailable", "detail": str(error)})
        return 0
    # Behind the lock: everything imported from here on runs without network, files and other processes.
    if spill is None:
        from dataaggregator.dataplane.sandbox.python.worker import work  # noqa: PLC0415 (only behind the lock)

        work(end, facts)
    else:
        from dataaggregator.dataplane.sandbox.session import serve  # noqa: PLC0415 (only behind the lock)

        serve(end, lock, spill, facts)
    return 0


if __name__ == "__main__":
    status = main()
    os._exit(status)  # nothing in this process is worth a tidy end
