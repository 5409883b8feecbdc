"""The run store in a folder, such as a volume that all executors mount."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from dataaggregator.durable import sync_folder
from dataaggregator.errors import Transient


class LocalRunStore:
    """Whoever sets it up makes the folder: one that is not there is a volume that is not mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, content: BinaryIO) -> None:
        with self._told():
            await asyncio.to_thread(self._put, self._path(name), content)

    def read(self, name: str) -> BinaryIO:
        with self._told(missing_ok=True):
            return self._path(name).open("rb")

    async def folders(self) -> Sequence[str]:
        with self._told():
            return await asyncio.to_thread(lambda: [entry.name for entry in self._there().iterdir() if entry.is_dir()])

    async def files(self, folder: str) -> Mapping[str, datetime]:
        with self._told():
            return await asyncio.to_thread(self._files, self._path(folder))

    async def remove(self, folder: str) -> None:
        with self._told():
            await asyncio.to_thread(_remove, self._path(folder))

    async def ping(self) -> None:
        with self._told():
            await asyncio.to_thread(lambda: next(self._there().iterdir(), None))

    def _put(self, path: Path, content: BinaryIO) -> None:
        """Beside, flushed, then renamed; the entries that lead to it are flushed as well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with beside.open("xb") as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        finally:
            beside.unlink(missing_ok=True)
        for folder in path.parents:
            sync_folder(folder)
            if folder == self._root:
                break

    def _files(self, folder: Path) -> dict[str, datetime]:
        found = (path for path in folder.rglob("[!.]*") if path.is_file())
        return {
            path.relative_to(self._root).as_posix(): datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in found
        }

    def _there(self) -> Path:
        if not self._root.is_dir():
            raise NotADirectoryError(0, "it is not there")
        return self._root

    def _path(self, name: str) -> Path:
        return self._there() / name

    @contextmanager
    def _told(self, *, missing_ok: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if missing_ok and isinstance(error, FileNotFoundError):
                raise
            told = f"The folder of the run store cannot be used: {error.strerror}."
            raise Transient("run-store-unavailable", told) from error


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
