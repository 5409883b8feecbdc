"""File access by Landlock: read what Python and the engines are made of, write the spill folder, nothing else.

It binds the calling thread and what it starts, so it is applied before an engine starts threads.
Protocol: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dataaggregator.dataplane.sandbox import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FIRST_ABI_RIGHTS = (1 << 13) - 1
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _TRUNCATE
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 0b11
_SCOPES = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def abi() -> int:
    """The version the kernel speaks; 0 when it has no Landlock or it is switched off."""
    try:
        return kernel.syscall(_CREATE_RULESET, 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def beyond_files(version: int) -> str:
    """What this version holds besides files, in words."""
    return (", TCP" if version >= 4 else "") + (", signals and abstract sockets" if version >= 6 else "")


def _handled(version: int) -> _Ruleset:
    rights = _FIRST_ABI_RIGHTS
    rights |= (1 << 13) if version >= 2 else 0
    rights |= _TRUNCATE if version >= 3 else 0
    rights |= _IOCTL_DEV if version >= 5 else 0
    return _Ruleset(rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)


def _size(version: int) -> int:
    return 8 if version < 4 else 16 if version < 6 else 24


def apply(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Allow reading and writing beneath these paths and refuse everything else, for good."""
    version = abi()
    ruleset = _handled(version)
    handle = kernel.syscall(_CREATE_RULESET, ctypes.byref(ruleset), _size(version), 0)
    try:
        for path in readable:
            _allow(handle, path, _READ & ruleset.handled_access_fs)
        for path in writable:
            _allow(handle, path, _WRITE & ruleset.handled_access_fs)
        kernel.syscall(_RESTRICT_SELF, handle, 0)
    finally:
        os.close(handle)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return  # what cannot be opened needs no leave
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _ON_FILES
        rule = _PathRule(rights, handle)
        kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(handle)
