"""The wire between executor and run process: one JSON document a frame, its length before it, over a socket pair."""

import asyncio
import socket
import struct

_LENGTH = struct.Struct("!I")
LIMIT_BYTES = 64 * 1024 * 1024


class WireClosedError(Exception):
    """The other end is gone."""


class Wire:
    """Frames of bytes in order. Sends do not interleave: a frame is written whole before the next one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connected: socket.socket) -> "Wire":
        connected.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connected, limit=1024 * 1024)
        return cls(reader, writer)

    async def send(self, frame: bytes) -> None:
        if len(frame) > LIMIT_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes is over the limit of {LIMIT_BYTES}")
        try:
            self._writer.write(_LENGTH.pack(len(frame)) + frame)
            await self._writer.drain()
        except (ConnectionError, OSError) as error:
            raise WireClosedError from error

    async def receive(self) -> bytes:
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > LIMIT_BYTES:
                raise ValueError(f"a frame of {length} bytes is over the limit of {LIMIT_BYTES}")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, OSError) as error:
            raise WireClosedError from error

    def close(self) -> None:
        self._writer.close()
