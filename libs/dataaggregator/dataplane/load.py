"""One destination of one run: asked first, counted, judged, committed with its receipt, read back (rules 8 to 10)."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.destination import (
    Begun,
    BinaryDestination,
    Destination,
    LoadRequest,
    NotingDestination,
    Refused,
    RefusingDestination,
)
from dataaggregator.connector.destination import Receipt as HeldReceipt
from dataaggregator.connector.differences import SchemaChangeWaits
from dataaggregator.connector.source import BinaryCopy
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.ledger import LedgerEdge, LedgerStage, Receipt
from dataaggregator.contracts.pipeline import ResolvedDestination
from dataaggregator.contracts.run import DestinationOutcome, RunError
from dataaggregator.dataplane import noting
from dataaggregator.dataplane.admission import Admission
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.book import Producer, trusted_stage
from dataaggregator.dataplane.deletes import DELETE_MARK, count, with_mark_field, with_marks
from dataaggregator.dataplane.extract import Extract
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.ledger import QUARANTINE
from dataaggregator.dataplane.noting import Note
from dataaggregator.dataplane.tally import Counted

UNDO_SECONDS = 3.0
State = Literal["pending", "begun", "committed", "failed"]


class Load:
    """Goes one way: pending → begun → committed, or failed from anywhere before the commit."""

    def __init__(
        self, definition: ResolvedDestination, request: LoadRequest, destination: Destination, admission: Admission,
        failpoints: Failpoints,
    ) -> None:  # fmt: skip
        self.name = admission.stage
        self.definition = definition
        self.request = request
        self.destination = destination
        self.admission = admission
        self.counted = Counted("destination")
        self.state: State = "pending"
        self.error: RunError | None = None
        self.waiting: tuple[SchemaDifference, ...] = ()
        """What the stream may not be changed for before somebody has approved it."""
        self.receipt: Receipt | None = None
        self._held: HeldReceipt | None = None
        self._failpoints = failpoints

    async def settle(self, run_id: UUID | None = None) -> bool:
        """True when an attempt before this one has committed already: its receipt is taken, nothing is loaded again.

        So it is when another run, `run_id`, has committed the same rows.
        """
        request = self.request if run_id is None else dataclasses.replace(self.request, run_id=run_id)
        held = await self.destination.read_back(request)
        if held is not None:
            self.request = request
            self._settled(held)
        return held is not None

    async def prepare(self, schema: pa.Schema) -> Sequence[SchemaDifference]:
        marked = self.request.delete_when
        schema = with_mark_field(schema, marked) if marked else schema
        try:
            prepared = await self.destination.prepare(self.request, schema)
        except SchemaChangeWaits as error:
            self.waiting = error.differences
            raise
        self.admission.follow(self.request, prepared, schema)
        return prepared.changes

    async def begin(self) -> Begun:
        """The fence is ours from here on; a newer epoch at the destination raises Conflict."""
        begun = await self.destination.begin(self.request)
        self.state = "begun"
        self._failpoints.die_at("load.after_begin")
        if begun.receipt is not None:
            await self.destination.rollback()
            self._settled(begun.receipt)
        return begun

    async def write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        marked = batch if self.request.delete_when is None else with_marks(batch, self.request.delete_when)
        taken = await self.admission.take(batch, marked, self.destination)
        if taken.num_rows:
            await self.destination.write(taken)
        if self.request.delete_when is not None:
            self.counted.marked += count(taken.column(DELETE_MARK))
        self.counted.read += batch.num_rows
        self.counted.written += taken.num_rows
        self.counted.rejected = self.admission.rejected
        self.counted.bytes += batch.nbytes
        self.counted.batches += 1
        self._failpoints.die_at("load.mid_write")

    async def write_undecoded(self, copy: BinaryCopy) -> int:
        """Rows by the destination's own tag. Bytes are counted as they pass."""
        assert isinstance(self.destination, BinaryDestination)  # noqa: S101 (the caller has asked accepts_binary)
        self.counted.read = await self.destination.write_binary(dataclasses.replace(copy, chunks=self._passing(copy)))
        return self.counted.read

    async def seal(self) -> None:
        """All rows are written: what is not among them is recorded."""
        await asyncio.to_thread(self.admission.seal)

    def note(self, extract: Extract) -> None:
        """What goes with the receipt, once it is sealed."""
        if isinstance(self.destination, NotingDestination):
            self.destination.note(noting.written(extract, self.admission.apart(), self.counted))

    async def commit(self, cursors: Mapping[str, Cursor], judge: Callable[[], None]) -> None:
        """Rows that are refused only now are set aside, and `judge` may end it for them."""

        def set_aside(refused: Refused) -> None:
            self.admission.refused(refused)
            self.counted.rejected = self.admission.rejected
            self.counted.written -= refused.rows.num_rows
            judge()

        if isinstance(self.destination, RefusingDestination):
            self.destination.tell_refused(set_aside)
        self._failpoints.die_at("load.before_commit")
        held = await self.destination.commit(cursors)
        self._failpoints.die_at("load.after_commit")
        self._settled(held)

    async def verify(self) -> None:
        """Reads the receipt back over a connection of its own; only an equal one is a proof."""
        if self.receipt is None or self._held is None or not self._held.provable:
            return
        self._failpoints.die_at("load.before_receipt")
        again = await self.destination.read_back(self.request)
        same = again is not None and (again.rows, again.checksum) == (self._held.rows, self._held.checksum)
        self.receipt = self.receipt.model_copy(update={"read_back_at": datetime.now(UTC), "verified": same})

    async def fail(self, error: RunError | None) -> None:
        """Undoes what was begun. Without an error it was cancelled. What is committed stays committed."""
        if self.state in {"committed", "failed"}:
            return
        self.state, self.error = "failed", error
        with contextlib.suppress(Exception):  # a connection that is gone has rolled back by itself
            async with asyncio.timeout(UNDO_SECONDS):
                await self.destination.rollback()

    async def release(self) -> None:
        """Gives the fence back without having written: to be begun again later."""
        await self.destination.rollback()
        self.state = "pending"

    @cached_property
    def noted(self) -> Note | None:
        """What was counted of it, as the destination has it; asked once it is committed."""
        return None if self._held is None else noting.read(self._held.note)

    def records(self, here: Sequence[Extract]) -> Sequence[Extract]:
        """What was counted before it, once it is committed: by the run folder, then by the destination."""
        noted = None if self.noted is None else self.noted.extract
        return here if noted is None else (*here, noted)

    def stage(self) -> LedgerStage:
        """With the destination's own counts as soon as there is a receipt."""
        apart = self.admission.apart()
        stage = trusted_stage(self.name, self.counted).model_copy(
            update={
                "marked": self.counted.marked if self.request.delete_when is not None else None,
                "rejected_by": apart.rejected_by,
                "discarded_by": apart.discarded_by,
            }
        )
        if self.receipt is None:
            return stage
        held = self.receipt
        counts = {"inserted": held.inserted, "updated": held.updated, "unchanged": held.unchanged}
        more = {"superseded": held.superseded, "deleted": held.deleted, "written": held.inserted + held.updated}
        trust: dict[str, str] = {} if self._held is None or self._held.provable else {"accounting": "declared"}
        return stage.model_copy(update={**counts, **more, **trust})

    def edges(self, producer: Producer) -> list[LedgerEdge]:
        """What it took, and what it set aside of that."""
        taken = LedgerEdge(from_=producer.stage, to=self.name, handed_over=producer.written, taken=self.counted.read)
        kept = sum(entry.count for entry in self.admission.apart().quarantine)
        if not kept and not self.counted.rejected:
            return [taken]
        return [taken, LedgerEdge(from_=self.name, to=QUARANTINE, handed_over=self.counted.rejected, taken=kept)]

    def outcome(self, run_error: RunError | None, *, cancelled: bool) -> DestinationOutcome:
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded"
        if self.state != "committed":
            status = "cancelled" if cancelled and self.error is None else "failed"
        error = self.error or (run_error if status == "failed" else None)
        return DestinationOutcome(
            connector=self.definition.connector_name,
            stream=self.request.stream,
            status=status,
            receipt=self.receipt,
            error=error,
            waiting=self.waiting,
        )

    def _settled(self, held: HeldReceipt) -> None:
        self.state = "committed"
        self._held = held
        if not self.counted.read:
            self.admission.restore(None if self.noted is None else self.noted.apart)
            self.counted.rejected = self.admission.rejected
            self.counted.read, self.counted.marked = held.rows + self.counted.rejected, held.deleted
            if self.noted is not None:
                self.noted.taken.put_into(self.counted)
        self.counted.written = held.inserted + held.updated
        self.receipt = told(self.name, held)

    async def _passing(self, copy: BinaryCopy) -> AsyncIterator[bytes]:
        async for chunk in copy.chunks:
            self.counted.bytes += len(chunk)
            self.counted.batches += 1
            self._failpoints.die_at("load.mid_write")
            yield chunk


def told(destination: str, held: HeldReceipt) -> Receipt:
    """A destination's receipt as the ledger has it."""
    return Receipt(
        destination=destination,
        stream=held.stream,
        committed=held.rows,
        inserted=held.inserted,
        updated=held.updated,
        unchanged=held.unchanged,
        deleted=held.deleted,
        superseded=held.superseded,
        checksum=held.checksum,
        committed_at=held.committed_at,
    )
