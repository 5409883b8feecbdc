"""A folder of this machine: below the connector's root, which lies below an allowed root, with links followed first."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from dataaggregator.connector.context import Context
from dataaggregator.errors import Denied
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.names import OWN_FOLDER, checked, joined, shown
from dataaggregator_connectors.files.tree import File, T

MANIFEST = "manifest.json"


class LocalTree:
    """The connector's folder; every path that leaves here has been resolved and lies within it."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self._allowed = tuple(root.resolve() for root in context.allowed_roots)
        self.root = self._within_allowed(Path(config.folder))
        self.shown = str(self.root)

    def _within_allowed(self, path: Path) -> Path:
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in self._allowed):
            raise Denied("files-denied", f"{path} does not lie below a folder in FILES_ALLOWED_ROOTS.")
        return real

    def path(self, name: str) -> Path:
        """The real path of a name below the root; links that lead out of it are refused."""
        real = (self.root / PurePosixPath(checked(name))).resolve()
        if not real.is_relative_to(self.root):
            raise Denied("files-denied", f"{name!r} leads out of the connector's root.")
        return self._within_allowed(real)

    def file(self, name: str) -> File | None:
        path = self.path(name)
        if not path.is_file():
            return None
        found = path.stat()
        return File(name, found.st_size, (found.st_ino, found.st_mtime_ns), lambda: path.open("rb"), path)

    def is_folder(self, name: str) -> bool:
        return self.path(name or ".").is_dir()

    def below(self, folder: str, depth: int | None = None) -> Iterator[str]:
        """Links to folders are not followed: they may lead in a circle."""
        top = self.path(folder or ".")
        for found, folders, files in os.walk(top):
            inner = Path(found).relative_to(top)
            within = "" if inner == Path() else inner.as_posix()
            deep_enough = depth is not None and len(inner.parts) >= depth
            folders[:] = [] if deep_enough else sorted(name for name in folders if name != OWN_FOLDER)
            yield from (name for file in sorted(files) if shown(name := joined(folder, within, file)))

    def manifests(self, folder: str) -> Iterator[bytes]:
        for file in self.path(folder or ".").glob(f"{OWN_FOLDER}/*/{MANIFEST}"):
            yield file.read_bytes()

    def manifest(self, own_folder: str) -> bytes | None:
        file = self.path(own_folder) / MANIFEST
        return file.read_bytes() if file.is_file() else None

    def changed(self, files: Sequence[File]) -> Sequence[str]:
        now = {file.name: self.file(file.name) for file in files}
        return [file.name for file in files if _stamp(now[file.name]) != _stamp(file)]

    async def work(self, what: Callable[[], T]) -> T:
        return await asyncio.to_thread(what)

    async def close(self) -> None:
        """Nothing is open between calls."""


def _stamp(file: File | None) -> object:
    return None if file is None else (file.size, file.stamp)
