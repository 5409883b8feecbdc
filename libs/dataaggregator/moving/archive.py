"""The archive: heads and the bytes behind them, in numbered frames that only the holder of SECRET_KEY can open.

After the magic line and the sealed key of the file come frames of AES-256-GCM under that key. A frame's nonce is its
number, so that none can be left out, repeated or moved, and the last one says that it is the last (the construction
STREAM of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). The first byte within says what it is: a head, bytes, the end.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dataaggregator.errors import Invalid, PlatformError
from dataaggregator.secrets import KeyRing

Head = Mapping[str, Any]

MAGIC = b"dataaggregator installation 1\n"
FRAME_BYTES = 1024 * 1024
HEAD, DATA, END = b"h", b"d", b"e"
PURPOSE = "archive"
_LENGTH = struct.Struct("!I")
_MOST_BYTES = FRAME_BYTES + 64


class ArchiveWriter:
    """An archive without its end is no archive: `end` comes last, and only when everything is in it."""

    def __init__(self, file: BinaryIO, keys: KeyRing) -> None:
        key = AESGCM.generate_key(256)
        sealed = keys.seal(key, aad=PURPOSE, purpose=PURPOSE)
        file.write(MAGIC + _LENGTH.pack(len(sealed)) + sealed)
        self._file, self._cipher, self._number = file, AESGCM(key), 0
        self._waiting = bytearray()

    def head(self, head: Head) -> None:
        self._flush()
        self._frame(HEAD, orjson.dumps(head))

    def data(self, chunk: bytes) -> None:
        """Bytes that belong to the last head."""
        self._waiting += chunk
        while len(self._waiting) >= FRAME_BYTES:
            self._frame(DATA, bytes(self._waiting[:FRAME_BYTES]))
            del self._waiting[:FRAME_BYTES]

    def end(self) -> None:
        self._flush()
        self._frame(END, b"")

    def _flush(self) -> None:
        if self._waiting:
            self._frame(DATA, bytes(self._waiting))
            self._waiting.clear()

    def _frame(self, kind: bytes, content: bytes) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number), kind + content, None)
        self._number += 1
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)


class ArchiveReader:
    """Raises Invalid "archive-damaged" wherever the file is not what was written, and when it ends too soon."""

    def __init__(self, file: BinaryIO, keys: KeyRing) -> None:
        self._file, self._number = file, 0
        if file.read(len(MAGIC)) != MAGIC:
            raise Invalid("archive-damaged", "This file is no archive of an installation that this version can read.")
        sealed = self._block()
        if not keys.knows(sealed):
            raise Invalid(
                "archive-other-key",
                "The archive was sealed with another SECRET_KEY: set the one of the exported installation (an embedded"
                " one keeps it in the file secret.key of its home) as SECRET_KEY.",
            )
        self.outdated = keys.outdated(sealed)
        """Whether the key is an earlier one here."""
        try:
            self._cipher = AESGCM(keys.open(sealed, aad=PURPOSE, purpose=PURPOSE))
        except PlatformError as error:
            raise _damaged() from error
        self._next: tuple[bytes, bytes] = self._frame()

    def parts(self) -> Iterator[tuple[Head, Iterator[bytes]]]:
        """Each head with the bytes behind it, which must be read before the next."""
        while self._next[0] != END:
            kind, content = self._next
            if kind != HEAD:
                raise _damaged()
            self._next = self._frame()
            yield orjson.loads(content), self._data()
        if self._file.read(1):
            raise _damaged()

    def _data(self) -> Iterator[bytes]:
        while self._next[0] == DATA:
            yield self._next[1]
            self._next = self._frame()

    def _frame(self) -> tuple[bytes, bytes]:
        try:
            opened = self._cipher.decrypt(_nonce(self._number), self._block(), None)
        except InvalidTag:
            raise _damaged() from None
        self._number += 1
        return opened[:1], opened[1:]

    def _block(self) -> bytes:
        length = self._file.read(_LENGTH.size)
        if len(length) < _LENGTH.size:
            raise _damaged()
        size = _LENGTH.unpack(length)[0]
        block = self._file.read(size) if size <= _MOST_BYTES else b""
        if not block or len(block) < size:
            raise _damaged()
        return block


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _damaged() -> Invalid:
    return Invalid("archive-damaged", "The archive is not whole or was changed: copy it once more, or export anew.")
