"""Contracts: the ledger of a run: what each stage counted, what each edge handed over, what destinations hold."""

from typing import Literal
from uuid import UUID

from pydantic import Field

from dataaggregator.contracts.base import Time, Told
from dataaggregator.contracts.steps import Expect

Accounting = Literal["proven", "declared", "unaccounted"]


class LedgerInput(Told):
    """One input of a join: read = matched + unmatched."""

    input: str
    read: int
    matched: int
    unmatched: int


class LedgerStage(Told):
    """The counts of one stage; those that its kind does not have are null. `law` says what must hold, in words.

    `discarded_by` names the columns that a destination does not have, each with the rows that had a value there.
    `columns` are those that were read of a source, where nothing needed the others; null is all of them. A filter is
    `pushed_down` where the source has done it, and counted what it left out in the snapshot of the read.
    """

    stage: str
    kind: str
    accounting: Accounting = "proven"
    read: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    filtered_by: dict[str, int] = Field(default_factory=dict)
    rejected_by: dict[str, int] = Field(default_factory=dict)
    warned_by: dict[str, int] = Field(default_factory=dict)
    discarded_by: dict[str, int] = Field(default_factory=dict)
    inputs: tuple[LedgerInput, ...] = ()
    fan_out: int | None = None
    groups: int | None = None
    counted: int | None = None
    kept: int | None = None
    duplicates: int | None = None
    lengths: int | None = None
    empty: int | None = None
    doubled: int | None = None
    invented: int | None = None
    expect: Expect | None = None
    flow: int | None = None
    inserted: int | None = None
    updated: int | None = None
    unchanged: int | None = None
    deleted: int | None = None
    superseded: int | None = None
    marked: int | None = None
    bytes: int = 0
    batches: int = 0
    columns: tuple[str, ...] | None = None
    pushed_down: bool = False
    duration_ms: int = 0
    law: str | None = None
    balanced: bool = True


class LedgerEdge(Told):
    """What one stage handed to the next, and what that one took: equal, or the run is unbalanced."""

    from_: str = Field(alias="from")
    to: str
    handed_over: int
    taken: int


class Receipt(Told):
    """What the destination says it holds of this run; `verified` after it was read back."""

    destination: str
    stream: str
    committed: int
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    superseded: int = 0
    checksum: str | None = None
    committed_at: Time
    read_back_at: Time | None = None
    verified: bool = False
    chunks: int = 1
    """Transactions in which its rows were committed."""


class DestinationVerified(Told):
    """What one destination says of a run now, held against the run's receipt; null where there is none.

    `missing`: it holds nothing of the run. `differs`: something else, by the fields named. `unknown`: it could not be
    asked, or keeps no ledger; `detail` and `code` say why.
    """

    destination: str
    stream: str
    status: Literal["verified", "missing", "differs", "unknown"]
    expected: Receipt | None
    found: Receipt | None
    differences: tuple[str, ...] = ()
    rows_written: int | None = None
    """Inserted and updated by the run, where the destination can tell its rows from all others."""
    rows_unchanged: int | None = None
    """So many of them are there now as the run wrote them; later loads and other people change and delete rows."""
    detail: str
    code: str | None = None


class Verification(Told):
    """A run's receipts read back at its destinations; `verified` only if every one of them was."""

    run_id: UUID
    verified: bool
    destinations: tuple[DestinationVerified, ...]


class Ledger(Told):
    """The whole ledger; its accounting is the weakest stage's. `violations` names each law that does not hold."""

    run_id: UUID
    stages: tuple[LedgerStage, ...] = ()
    edges: tuple[LedgerEdge, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    accounting: Accounting = "proven"
    balanced: bool
    violations: tuple[str, ...] = ()
