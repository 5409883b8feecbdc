"""What one pass over the sources gave, recorded in the run folder: a later attempt goes on from it, counts included."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dataaggregator.contracts.ledger import LedgerEdge, LedgerStage
from dataaggregator.contracts.pipeline import EmptiedSource
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.book import Producer
from dataaggregator.dataplane.copies import Copy
from dataaggregator.dataplane.job import QuarantineEntry

RECORD = "extract.json"
JsonCursor = dict[str, str]


class Extract(BaseModel):
    """Complete and judged: written only after the last row was counted, before anything is committed."""

    model_config = ConfigDict(frozen=True)

    takers: tuple[str, ...]
    """The destinations, by their ledger names, that this pass was made for."""
    came_from: dict[str, JsonCursor]
    """The cursors this pass went on from, by source stream; empty is from the beginning."""
    cursors: dict[str, JsonCursor]
    """The cursors to commit with its rows."""
    stages: tuple[LedgerStage, ...]
    edges: tuple[LedgerEdge, ...]
    producers: dict[str, Producer]
    counts: RunCounts
    quarantine: tuple[QuarantineEntry, ...] = ()
    warnings: tuple[str, ...] = ()
    emptied: tuple[EmptiedSource, ...] = ()
    """Sources without a row where there were rows before."""
    spooled: dict[str, str] = {}
    """Parquet files by node, relative to the run folder; empty when the rows went straight on."""
    copies: tuple[Copy, ...] = ()
    """All rows of the sources that are kept, as they are with this pass."""
    chunk: int = 0
    last: bool = True
    """Whether no chunk comes behind this one."""

    def save(self, folder: Path) -> None:
        """Whole or not at all: written beside, then renamed. What rows depend on is flushed to disk, counts are not."""
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{RECORD}.new"
        with beside.open("wb") as file:
            file.write(self.model_dump_json(by_alias=True).encode())
            if self.spooled or self.copies:
                file.flush()
                os.fsync(file.fileno())
        beside.rename(folder / RECORD)

    def has_spool(self, run_folder: Path) -> bool:
        """Whether its rows are still here; of an attempt on another machine only the counts are."""
        return bool(self.spooled) and all((run_folder / path).is_file() for path in self.spooled.values())

    def continues(self, committed: Mapping[str, Cursor], source_streams: Sequence[str]) -> bool:
        """Whether its rows are still what a destination lacks: no other run has moved its cursors since."""
        here = {key: cursor for key, cursor in self.came_from.items() if key in source_streams}
        return here == {key: cursor.to_json() for key, cursor in committed.items()}


def extracts(run_folder: Path) -> Iterator[Extract]:
    """All complete ones of earlier attempts, the newest first."""
    for record in sorted(run_folder.glob(f"pass-*/{RECORD}"), reverse=True):
        try:
            extract = Extract.model_validate_json(record.read_bytes())
        except ValueError:  # the machine stopped before the counts were on its disk
            continue
        yield extract


def pass_folder(run_folder: Path, attempt: int, number: int) -> Path:
    return run_folder / f"pass-{attempt:04}-{number:02}"
