"""A file's bytes as they were before somebody compressed them, up to what a file may become."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa

from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import Compression, Expansion
from dataaggregator_connectors.files.tree import File

FREE_BYTES = 64 * 1024 * 1024
BUFFER_BYTES = 1024 * 1024
Opening: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]


def arrow_file(raw: Any) -> pa.NativeFile:
    """A file of Python as Arrow takes it."""
    return pa.PythonFile(raw, mode="r")


class Expanded(io.RawIOBase):
    """What a compressed file holds; one that is cut off, damaged or grows beyond its bounds is refused."""

    def __init__(self, file: File, compression: Compression, bounds: Expansion) -> None:
        self._name = file.name
        self._most = min(bounds.most_bytes, max(FREE_BYTES, bounds.most_times * file.size))
        self._raw = file.opening()
        self._stream = pa.CompressedInputStream(arrow_file(self._raw), compression)
        self._taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            raise Invalid("file-malformed", f"{self._name}: {error}, {self._taken} bytes in.") from error
        self._taken += len(data)
        if self._taken > self._most:
            raise Invalid(
                "file-expands",
                f"{self._name} becomes more than {self._most} bytes; `expansion` says how much a file may become.",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._raw.close()
        super().close()


@contextmanager
def opened(file: File, compression: Compression | None, bounds: Expansion) -> Iterator[BinaryIO]:
    if compression is None:
        with file.opening() as raw:
            yield raw
    else:
        with io.BufferedReader(Expanded(file, compression, bounds), BUFFER_BYTES) as whole:
            yield whole
