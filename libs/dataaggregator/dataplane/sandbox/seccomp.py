"""The filter of system calls: classic BPF, put together here, set for every thread of this process."""

import ctypes
import errno
import os
import struct

from dataaggregator.dataplane.sandbox import kernel
from dataaggregator.dataplane.sandbox.syscalls import (
    AUDIT_ARCH,
    CLONE,
    CLONE3,
    FCNTL,
    IOCTL,
    KILL,
    PRCTL,
    PRLIMIT64,
    SENDTO,
    TGKILL,
    refused,
)

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_FLAG_TSYNC = 1

_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA = 15, 16, 0x53564D41
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# A signal to whom it names, when a descriptor has news: by a number of one's choice to any process of the same user.
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
# A lease holds up whoever opens the file, a notice tells what others do in a folder.
_F_SETLEASE, _F_NOTIFY = 1024, 1026

Instruction = tuple[int, int, int, int]


def _statement(code: int, value: int) -> Instruction:
    return (code, 0, 0, value & 0xFFFFFFFF)


def _jump(code: int, value: int, if_true: int, if_false: int) -> Instruction:
    return (code, if_true, if_false, value & 0xFFFFFFFF)


def _refuse(code: int = errno.EPERM) -> Instruction:
    return _statement(_RETURN, _ERRNO | code)


_ALLOWED = _statement(_RETURN, _ALLOW)


def _argument(place: int, *, high: bool = False) -> Instruction:
    return _statement(_LOAD, _ARGUMENTS_AT + 8 * place + (4 if high else 0))


def _only(number: int, body: list[Instruction]) -> list[Instruction]:
    """Judge calls of this number by `body`, which must return; others go on behind it."""
    return [_jump(_EQUAL, number, 0, len(body)), *body]


def _one_of(values: list[int], place: int) -> list[Instruction]:
    """Allowed when the argument is one of these."""
    checks = [_jump(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_argument(place), *checks, _refuse(), _ALLOWED]


def _none_of(values: list[int], place: int) -> list[Instruction]:
    """Refused when the argument is one of these."""
    checks = [_jump(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_argument(place), *checks, _ALLOWED, _refuse()]


def _null_only(place: int) -> list[Instruction]:
    """Allowed when the pointer argument is null."""
    return [
        _argument(place), _jump(_EQUAL, 0, 1, 0), _refuse(),
        _argument(place, high=True), _jump(_EQUAL, 0, 1, 0), _refuse(), _ALLOWED,
    ]  # fmt: skip


def program(machine: str, pid: int, *, for_good: bool = True) -> list[Instruction]:
    """The whole filter for this machine and process; unless `for_good`, a stricter one can be put on top."""
    lines = [_statement(_LOAD, _ARCH_AT), _jump(_EQUAL, AUDIT_ARCH[machine], 1, 0)]
    lines += [_statement(_RETURN, _KILL_PROCESS), _statement(_LOAD, _NUMBER_AT)]
    if machine == "x86_64":
        lines += [_jump(_AT_LEAST, _X32_BIT, 0, 1), _statement(_RETURN, _KILL_PROCESS)]
    # Threads yes, processes no. The arguments of clone3 lie in memory, where a filter cannot look: glibc takes
    # clone when it is told that clone3 does not exist.
    lines += _only(CLONE[machine], [_argument(0), _jump(_ANY_BIT, _CLONE_THREAD, 1, 0), _refuse(), _ALLOWED])
    lines += _only(CLONE3[machine], [_refuse(errno.ENOSYS)])
    # abort() signals its own process; nobody else may be signalled.
    lines += _only(KILL[machine], _one_of([pid], 0))
    lines += _only(TGKILL[machine], _one_of([pid], 0))
    lines += _only(PRLIMIT64[machine], _null_only(2))
    lines += _only(PRCTL[machine], _one_of([_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA], 0))
    lines += _only(SENDTO[machine], _null_only(4))
    lines += _only(IOCTL[machine], _none_of([_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP], 1))
    lines += _only(FCNTL[machine], _none_of([_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY], 1))
    for number in refused(machine):
        if for_good or number != _SECCOMP[machine]:
            lines += _only(number, [_refuse()])
    return [*lines, _ALLOWED]


def _threads_program(machine: str) -> list[Instruction]:
    """What comes on top of `program`, which has judged machine and number."""
    over = [_only(number, [_refuse(errno.EAGAIN)]) for number in (CLONE[machine], _SECCOMP[machine])]
    return [_statement(_LOAD, _NUMBER_AT), *(line for lines in over for line in lines), _ALLOWED]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def known_machine() -> bool:
    """Whether we have the numbers for this machine."""
    return kernel.machine() in AUDIT_ARCH


def available() -> bool:
    """Whether the kernel takes filters that answer with an error number."""
    if not known_machine():
        return False
    action = ctypes.c_uint32(_ERRNO)
    try:
        kernel.syscall(_SECCOMP[kernel.machine()], _GET_ACTION_AVAIL, 0, ctypes.byref(action))
    except OSError:
        return False
    return True


def apply(*, for_good: bool = True) -> None:
    """Set the filter. It cannot be taken off again."""
    _set(program(kernel.machine(), os.getpid(), for_good=for_good))


def no_more_threads() -> None:
    """Behind `apply(for_good=False)`: those that run go on, no other one starts."""
    _set(_threads_program(kernel.machine()))


def _set(lines: list[Instruction]) -> None:
    packed = b"".join(struct.pack("=HBBI", *line) for line in lines)
    filter_ = _Program(len(lines), packed)
    kernel.syscall(_SECCOMP[kernel.machine()], _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(filter_))
