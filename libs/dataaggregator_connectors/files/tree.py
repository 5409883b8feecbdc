"""What a root offers, whatever kind it is: files by name with their state, and their bytes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """One file in one state: `stamp` is another one when the file is, and `opening` gives the bytes of this one."""

    name: str
    size: int
    stamp: object
    opening: Callable[[], BufferedReader]
    path: Path | None = None
    """Where Arrow may read it by itself."""


class Tree(Protocol):
    """Names are below the root, with slashes; what leads out of it is refused."""

    shown: str
    """The root as people write it."""

    def file(self, name: str) -> File | None: ...

    def is_folder(self, name: str) -> bool: ...

    def below(self, folder: str, depth: int | None = None) -> Iterator[str]:
        """The names of the files in a folder, and in those below it down to `depth` (0: none of them)."""
        ...

    def manifests(self, folder: str) -> Iterator[bytes]:
        """The manifests of the streams kept in this folder."""
        ...

    def manifest(self, own_folder: str) -> bytes | None: ...

    def changed(self, files: Sequence[File]) -> Sequence[str]:
        """The names of those that are no longer in the state they were found in, if reading has not shown it."""
        ...

    async def work(self, what: Callable[[], T]) -> T:
        """Do what waits in a thread, never in one that the root's own answers need."""
        ...

    async def close(self) -> None: ...
