"""The wire between host and sandbox: length-prefixed frames of a JSON header and Arrow bytes on one socket.

A frame is 4 bytes length of the header, 8 bytes length of the body (both big-endian), header, body. Nothing here
imports an engine: the process reads its first frame before it is locked down.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

PREFIX = struct.Struct(">IQ")
HEADER_LIMIT_BYTES = 64 << 20
BODY_LIMIT_BYTES = 2 << 30
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: `header["kind"]` says which, `body` holds Arrow IPC bytes or nothing."""

    header: Mapping[str, Any]
    body: memoryview

    @property
    def kind(self) -> str:
        """Which message this is."""
        return str(self.header["kind"])


class BrokenWireError(Exception):
    """The other side closed the wire, or sent something that is no frame."""


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair with room for a batch's worth of bytes in flight."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    return ours, theirs


def _head(header: Mapping[str, Any], body_bytes: int) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return PREFIX.pack(len(text), body_bytes) + text


def _sizes(prefix: bytes | bytearray) -> tuple[int, int]:
    header_bytes, body_bytes = PREFIX.unpack(prefix)
    if header_bytes > HEADER_LIMIT_BYTES or body_bytes > BODY_LIMIT_BYTES:
        raise BrokenWireError("a frame is larger than any message may be")
    return header_bytes, body_bytes


def _header(text: bytes | bytearray) -> Mapping[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenWireError("a frame's header is not JSON") from error
    if not isinstance(header, dict) or "kind" not in header:
        raise BrokenWireError("a frame does not say which kind it is")
    return header


def send(end: socket.socket, header: Mapping[str, Any], body: Any = b"") -> None:
    """Write one frame, waiting for room."""
    view = memoryview(body).cast("B")
    end.sendall(_head(header, view.nbytes))
    if view.nbytes:
        end.sendall(view)


class Readable(Protocol):
    """What `receive` asks of a socket."""

    def recv_into(self, room: memoryview, /) -> int:
        """Wait for bytes and put them there; 0 when none will come any more."""


def receive(end: Readable) -> Frame | None:
    """Read one frame, waiting for it; None when the other side has closed between frames."""
    prefix = bytearray(PREFIX.size)
    if not _fill(end, memoryview(prefix), at_start=True):
        return None
    header_bytes, body_bytes = _sizes(prefix)
    text, body = bytearray(header_bytes), bytearray(body_bytes)
    _fill(end, memoryview(text))
    _fill(end, memoryview(body))
    return Frame(_header(text), memoryview(body))


def _fill(end: Readable, room: memoryview, *, at_start: bool = False) -> bool:
    got = 0
    while got < room.nbytes:
        count = end.recv_into(room[got:])
        if count == 0:
            if at_start and got == 0:
                return False
            raise BrokenWireError("the wire ended inside a frame")
        got += count
    return True


async def send_async(end: socket.socket, header: Mapping[str, Any], body: Any = b"") -> None:
    """As `send`, on the event loop; the socket must not block."""
    loop = asyncio.get_running_loop()
    view = memoryview(body).cast("B")
    await loop.sock_sendall(end, _head(header, view.nbytes))
    if view.nbytes:
        await loop.sock_sendall(end, view)


async def receive_async(end: socket.socket, room: Callable[[int], Any]) -> Frame | None:
    """As `receive`, on the event loop; the socket must not block. `room` gives a buffer of so many bytes."""
    prefix = bytearray(PREFIX.size)
    if not await _fill_async(end, memoryview(prefix), at_start=True):
        return None
    header_bytes, body_bytes = _sizes(prefix)
    text, body = bytearray(header_bytes), room(body_bytes)
    await _fill_async(end, memoryview(text))
    await _fill_async(end, memoryview(body))
    return Frame(_header(text), memoryview(body))


async def _fill_async(end: socket.socket, room: memoryview, *, at_start: bool = False) -> bool:
    loop = asyncio.get_running_loop()
    got = 0
    while got < room.nbytes:
        count = await loop.sock_recv_into(end, room[got:])
        if count == 0:
            if at_start and got == 0:
                return False
            raise BrokenWireError("the wire ended inside a frame")
        got += count
    return True
