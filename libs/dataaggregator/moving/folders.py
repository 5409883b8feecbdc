"""The folders of a home that travel: those of runs with their rejected rows and spools, and kept copies."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dataaggregator.durable import sync_folder
from dataaggregator.errors import Invalid
from dataaggregator.moving.archive import FRAME_BYTES, Head

FOLDERS = ("runs", "kept")
DRAFT = "importing"


def files(home: Path) -> Iterator[tuple[Head, Iterator[bytes]]]:
    """Each file below, with its path in the home and the time of its last change: what nobody uses is cleaned by it."""
    for folder in FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield {"path": path.relative_to(home).as_posix(), "changed_at_ns": path.stat().st_mtime_ns}, _read(path)


class Arriving:
    """Files wait in a folder of their own until the rows are as good as there; a cut import leaves only that."""

    def __init__(self, home: Path) -> None:
        self._home, self._draft = home, home / DRAFT
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(mode=0o700, parents=True)

    def put(self, head: Head, chunks: Iterator[bytes]) -> None:
        path = PurePosixPath(head["path"])
        if path.parts[0] not in FOLDERS or ".." in path.parts:
            raise Invalid("archive-damaged", f"The archive has a file {path}, which is none of an installation.")
        target = self._draft / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.utime(target, ns=(head["changed_at_ns"], head["changed_at_ns"]))

    def settle(self) -> None:
        """Into their places, for good: the rows are committed behind. What an import that was cut has left there is
        replaced."""
        for folder in map(self._draft.joinpath, FOLDERS):
            if not folder.exists():
                continue
            places = self._home / folder.name
            places.mkdir(mode=0o700, exist_ok=True)
            for below in folder.rglob("*/"):
                sync_folder(below)
            for entry in folder.glob("*"):
                place = places / entry.name
                shutil.rmtree(place, ignore_errors=True)
                entry.rename(place)
            sync_folder(places)
        sync_folder(self._home)
        self.drop()

    def drop(self) -> None:
        shutil.rmtree(self._draft, ignore_errors=True)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(FRAME_BYTES):
            yield chunk
