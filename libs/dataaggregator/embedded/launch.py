"""Starts a server program as an ordinary user that ends with its parent.

Run as a script: ``python -I launch.py UID GID PARENT SIGNAL PROGRAM [ARGUMENT ...]``. It is a process of its own,
because changing users and asking for a signal at the parent's death are not safe between fork and exec of a threaded
program.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Drop to the user given (-1 keeps the present one), get the signal when the parent ends, become the program."""
    uid, gid, parent, sign = (int(word) for word in sys.argv[1:5])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which clears it.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, sign) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent ended before the server was started")
    os.umask(0o077)
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    main()
