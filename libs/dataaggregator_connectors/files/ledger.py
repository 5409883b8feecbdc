"""What keeps a stream's manifest: the fence at the beginning, the files in place, and all of it visible at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dataaggregator.connector.destination import LoadRequest
from dataaggregator.dataplane.batch import Cursor
from dataaggregator_connectors.files.manifest import Held, Loaded, Manifest


@dataclass(frozen=True)
class Placed:
    """A finished draft and the name below the stream's folder it is to have."""

    draft: Path
    name: str
    held: Held


class Ledger(Protocol):
    """One stream's; `begin` to `release` is one load."""

    drafts: Path
    """Where unfinished files are."""
    in_place: bool
    """Whether a file can take another's name in the moment in which it is committed."""

    def prepare(self) -> None: ...

    def read(self) -> Manifest: ...

    async def begin(self, load: LoadRequest) -> Manifest:
        """Take the fence; Conflict "lease-lost" when a newer epoch was here."""
        ...

    def place(self, placed: Placed) -> None:
        """A file is whole; it may be put where it will be, seen by nobody."""
        ...

    def commit(
        self, load: LoadRequest, placed: Sequence[Placed], loaded: Loaded, cursors: Mapping[str, Cursor]
    ) -> Manifest:
        """All files of the load, its receipt and its cursors become visible together."""
        ...

    def release(self) -> None: ...
