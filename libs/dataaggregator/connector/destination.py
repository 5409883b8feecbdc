"""What a destination is: it takes the fence, loads rows and ledger row as one thing, and answers with a receipt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.source import BinaryCopy
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Transient


class WriteKind(StrEnum):
    APPEND = "append"
    REPLACE = "replace"
    MERGE = "merge"


class ReplaceStrategy(StrEnum):
    DELETE_INSERT = "delete_insert"
    SWAP = "swap"


class SchemaPolicy(StrEnum):
    """What becomes of a difference between the rows and the stream they go to; `connector.differences` judges it."""

    EVOLVE = "evolve"
    FREEZE = "freeze"
    DISCARD_COLUMN = "discard_column"
    DISCARD_ROW = "discard_row"
    PAUSE = "pause"


@dataclass(frozen=True)
class LoadRequest:
    """One load: which run loads which stream, how, and under which epoch.

    `epoch` grows with every claim of any run of the pipeline; a destination that has seen a newer one refuses an older.
    """

    run_id: UUID
    pipeline_id: UUID
    stream: str
    write: WriteKind
    epoch: int
    chunk: int = 0
    replace_strategy: ReplaceStrategy = ReplaceStrategy.DELETE_INSERT
    key: tuple[str, ...] = ()
    version_field: str | None = None
    delete_when: str | None = None
    """Of a merge: the field that says which rows are to go. They come without it, and with a `deletes.DELETE_MARK`."""
    schema_policy: SchemaPolicy = SchemaPolicy.EVOLVE
    source_streams: tuple[str, ...] = ()
    """The keys of the cursors that are committed with it: of sources that are read incrementally."""
    approved: tuple[SchemaDifference, ...] = ()
    """With PAUSE, the differences that may be made."""
    fence: UUID | None = None
    """Of a slot of a backfill, or of a lane: it is not the pipeline's own, whose cursors are not told to it."""

    @property
    def fenced_by(self) -> UUID:
        """Whose fence and cursors at the stream these are: older epochs of the same are kept out."""
        return self.fence or self.pipeline_id


@dataclass(frozen=True)
class Receipt:
    """What the destination says it holds of one load: counts from its own command tags, never from ours.

    rows = inserted + updated + unchanged + superseded. Of a merge with `delete_when` + deleted: a mark removes a row,
    finds none (unchanged) or is older than what is there (superseded). The rows that a replace removed are `deleted`
    too, and none of `rows`.
    """

    run_id: UUID
    stream: str
    chunk: int
    rows: int
    inserted: int
    committed_at: datetime
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    deleted: int = 0
    checksum: str | None = None
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    provable: bool = True
    """False where the destination keeps no ledger that could be asked again: its word is all there is."""
    note: str = ""
    """What was noted with the load."""


@dataclass(frozen=True)
class Recount:
    """The rows a load has written, and how many of them are there now as it wrote them; None: `detail` says why."""

    written: int
    unchanged: int | None
    detail: str = ""


@dataclass(frozen=True)
class Prepared:
    """The stream is ready for rows of `schema`: that of the rows, less what the policy keeps away from the stream.

    `changes` were made at the stream for them; what is in `left` was found, and is as it was.
    """

    schema: pa.Schema
    changes: Sequence[SchemaDifference] = ()
    left: Sequence[SchemaDifference] = ()


@dataclass(frozen=True)
class Begun:
    """The fence is ours: the cursors committed so far by source stream, and the receipt if this chunk is already in."""

    cursors: Mapping[str, Cursor]
    receipt: Receipt | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    """Under which each cursor was committed: one that was set by hand later counts more."""


@dataclass(frozen=True)
class Refused:
    """Rows that the destination does not take as they are, by which rule, and its words."""

    rows: pa.RecordBatch
    rule: str
    reason: str


class CommitUnknown(Transient):
    """The commit was sent and not answered, and the destination could not be asked what became of it."""


class Destination(Protocol):
    """One object per run and destination: prepare, begin, write…, commit; rollback or close at any point undoes."""

    async def prepare(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        """Create the stream or judge how it differs, and evolve it in a short transaction of its own, before begin."""
        ...

    async def foresee(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        """What prepare would do and answer, or the error it would raise, found out by looking: nothing is changed."""
        ...

    async def begin(self, load: LoadRequest) -> Begun:
        """Open the load and take the fence; Conflict "lease-lost" when a newer epoch was here."""
        ...

    async def write(self, rows: pa.RecordBatch) -> None: ...

    async def commit(self, cursors: Mapping[str, Cursor]) -> Receipt:
        """Rows, ledger row and cursors (by source stream) become visible together.

        An unanswered commit is cleared up by asking the destination; CommitUnknown only if it cannot be asked.
        """
        ...

    async def rollback(self) -> None: ...

    async def read_back(self, load: LoadRequest) -> Receipt | None:
        """The receipt as the destination holds it now, read over a connection of its own."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class NotingDestination(Destination, Protocol):
    """A destination whose ledger has room for a note beside each receipt."""

    def note(self, note: str) -> None:
        """To be found with the receipt; between begin and commit."""
        ...


@runtime_checkable
class CountingDestination(Destination, Protocol):
    """A destination that can tell the rows of a load from all others."""

    async def recount(self, load: LoadRequest, seconds: float) -> Recount | None:
        """Over all chunks of the load, within so many seconds; None where it holds nothing of it."""
        ...


@runtime_checkable
class ExactDestination(Destination, Protocol):
    """A destination whose stream does not hold every value of a type that it takes."""

    async def unfit(self, rows: pa.RecordBatch) -> Mapping[int, str]:
        """Why the stream cannot keep a row of these as it is, by its place; between begin and commit."""
        ...


@runtime_checkable
class RefusingDestination(Destination, Protocol):
    """A destination that finds out only as it commits which rows it does not take."""

    def tell_refused(self, refused: Callable[[Refused], None]) -> None:
        """Who is told of them, between begin and commit; an error it raises ends the commit."""
        ...


@runtime_checkable
class BinaryDestination(Destination, Protocol):
    """A destination that takes another's rows undecoded when both speak the same types."""

    async def accepts_binary(self, load: LoadRequest, copy: BinaryCopy) -> bool:
        """Whether this copy fits the prepared or foreseen stream column by column (append and replace)."""
        ...

    async def write_binary(self, copy: BinaryCopy) -> int:
        """Take all chunks; answers the rows by the destination's own tag."""
        ...
