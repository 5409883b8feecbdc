"""The kernel's doors by ctypes: prctl, capset and raw system calls, with errors as OSError."""

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}


def machine() -> str:
    """The machine as the kernel names it (x86_64, aarch64, …)."""
    return platform.machine()


def syscall(number: int, *arguments: int | ctypes.c_void_p | object) -> int:
    """A raw system call; raises OSError for what the kernel refuses."""
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    answer = int(_libc.syscall(ctypes.c_long(number), *words))
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process."""
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def knows_capabilities() -> bool:
    """Whether they can be dropped on this machine."""
    return machine() in _CAPSET


def drop_capabilities() -> None:
    """Keep none of root's powers: what is left is an ordinary process of the same user."""
    number = _CAPSET.get(machine())
    if number is None:
        raise OSError(0, f"capabilities: not known how on {machine()}")
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    syscall(number, ctypes.byref(header), ctypes.byref(nothing))
