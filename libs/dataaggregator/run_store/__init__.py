"""The run store: where files of a run outlive the machine that did it: a folder all share (`local`), or a bucket."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import BinaryIO, Protocol


class RunStore(Protocol):
    """Files by names whose first part is their folder, such as `<run id>/quarantine/7/0001.parquet`.

    Whatever keeps the store from being used is Transient `run-store-unavailable`: what is to be put stays where it is.
    """

    async def put(self, name: str, content: BinaryIO) -> None:
        """Whole or not at all, and to stay when it returns; written over what has the name."""

    def read(self, name: str) -> BinaryIO:
        """To be read at any place in it; in a thread, because it waits. FileNotFoundError if nothing has the name."""

    async def folders(self) -> Sequence[str]:
        """Those that hold something."""

    async def files(self, folder: str) -> Mapping[str, datetime]:
        """All that is in it by name, with when it was written by the store's own clock."""

    async def remove(self, folder: str) -> None:
        """All that is in it; a folder that is not there is removed."""

    async def ping(self) -> None:
        """Return if the store answers and knows us."""
