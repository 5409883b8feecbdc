"""One outcome of many: the ledgers of all streams as one, an answer for each stream, and what is said of the whole."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from uuid import UUID

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.replicate import ResolvedReplicate
from dataaggregator.contracts.run import DestinationOutcome, RunCounts, RunError
from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.dataplane.ledger import judge, weakest
from dataaggregator.dataplane.replicating.planning import (
    CHOSEN,
    SOURCE,
    Planned,
    Streams,
    listed,
    remarks,
    vanished_warning,
)

MISSING = "stream-missing"


@dataclass(frozen=True)
class Names:
    """What the ledger of the whole run calls the stages of one stream."""

    stream: str
    source: str
    destination: str

    @classmethod
    def of(cls, replicate: ResolvedReplicate, one: Planned) -> "Names":
        source = source_stage(replicate, one.stream)
        return cls(one.stream, source, f"{replicate.to.connector_name}/{one.target}")

    def stage(self, name: str) -> str:
        """That of its source, also where its counts were lost; its destination has a name of its own already."""
        if name.startswith(f"{CHOSEN}["):
            return f"{self.source} {name}"
        return self.source if name in (SOURCE, f"{self.destination} (counts lost)") else name


def source_stage(replicate: ResolvedReplicate, stream: str) -> str:
    return f"{replicate.from_.connector_name}/{stream}"


def known_streams(replicate: ResolvedReplicate, previous_rows: Mapping[str, int]) -> frozenset[str]:
    """Those that the last good run has loaded."""
    before = source_stage(replicate, "")
    return frozenset(stage.removeprefix(before) for stage in previous_rows if stage.startswith(before))


@dataclass(frozen=True)
class Ended:
    """What became of one stream; without an outcome it was not begun. `folder` is below that of the run."""

    planned: Planned
    names: Names
    folder: PurePosixPath
    outcome: RunOutcome | None

    @property
    def error(self) -> RunError | None:
        return self.planned.error if self.outcome is None else self.outcome.error

    @property
    def succeeded(self) -> bool:
        return self.outcome is not None and self.outcome.status == "succeeded"

    @property
    def missing(self) -> bool:
        """Whether the source did not find it, or something that belongs to it, before any of its rows was committed."""
        held = self.outcome is not None and any(one.receipt is not None for one in self.outcome.destinations)
        return self.error is not None and (self.error.code, self.error.stage) == (MISSING, SOURCE) and not held

    def told(self) -> RunOutcome | None:
        """Its outcome in the words of the whole run."""
        if self.outcome is None:
            return None
        name, ledger = self.names.stage, self.outcome.ledger
        stages = [one.model_copy(update={"stage": name(one.stage)}) for one in ledger.stages]
        edges = [one.model_copy(update={"from_": name(one.from_), "to": name(one.to)}) for one in ledger.edges]
        changes = {
            "error": self._told(self.error),
            "ledger": judge(ledger.run_id, stages, edges, ledger.receipts),
            "quarantine": tuple(
                one.model_copy(update={"stage": name(one.stage), "file": str(self.folder / one.file)})
                for one in self.outcome.quarantine
            ),
            "warnings": tuple(self._warning(warning) for warning in self.outcome.warnings),
            "emptied": tuple(one.model_copy(update={"source": name(one.source)}) for one in self.outcome.emptied),
        }
        return self.outcome.model_copy(update=changes)

    def destination(self, replicate: ResolvedReplicate) -> DestinationOutcome:
        """It may have ended before it came to a destination."""
        if self.outcome is not None and self.outcome.destinations:
            (one,) = self.outcome.destinations
            return one.model_copy(update={"error": self._told(one.error)})
        return DestinationOutcome(
            connector=replicate.to.connector_name,
            stream=self.planned.target,
            status="cancelled" if self.error is None else "failed",
            error=self._told(self.error),
        )

    def _warning(self, warning: str) -> str:
        of_source = warning.startswith(f"{SOURCE} ")
        return f"{self.names.stream} {warning.partition(' ')[2]}" if of_source else f"{self.names.stream}: {warning}"

    def _told(self, error: RunError | None) -> RunError | None:
        if error is None or error.stage is None:
            return error
        return error.model_copy(update={"stage": self.names.stage(error.stage)})


def united(
    job: RunJob, streams: Streams, ends: Sequence[Ended], gone: Collection[str] = (), *, cancelled: bool = False
) -> RunOutcome:
    """It has succeeded when every stream has. Those that are `gone` are none any more, and are told."""
    replicate = job.definition.replicate
    assert replicate is not None  # noqa: S101  (these are its streams)
    counted = [one for one in ends if one.names.stream not in gone]
    told = [outcome for one in counted if (outcome := one.told()) is not None]
    failed = [one for one in counted if one.error is not None]
    whole = all(one.succeeded for one in counted)
    stopped = not whole and (cancelled or not failed)
    return RunOutcome(
        status="succeeded" if whole else "cancelled" if stopped else "failed",
        error=None if whole or stopped else _failure(failed, len(counted)),
        ledger=_ledger(job.run_id, [one.ledger for one in told]),
        destinations=tuple(one.destination(replicate) for one in counted),
        cursors=tuple(cursor for one in told for cursor in one.cursors),
        counts=_sum([one.counts for one in told]),
        quarantine=tuple(entry for one in told for entry in one.quarantine),
        warnings=(
            *streams.warnings,
            *(vanished_warning(stream) for stream in gone),
            *remarks(replicate, [one.planned for one in counted]),
            *(warning for one in told for warning in one.warnings),
        ),
        emptied=tuple(emptied for one in told for emptied in one.emptied),
    )


def nothing(run_id: UUID, error: RunError | None) -> RunOutcome:
    """The end of a run that knows no streams; without an error it was cancelled."""
    status = "cancelled" if error is None else "failed"
    return RunOutcome(status=status, error=error, ledger=judge(run_id, (), ()), counts=RunCounts())


def _ledger(run_id: UUID, ledgers: Sequence[Ledger]) -> Ledger:
    """Each was judged by itself, and no stage is in two."""
    return Ledger(
        run_id=run_id,
        stages=tuple(stage for one in ledgers for stage in one.stages),
        edges=tuple(edge for one in ledgers for edge in one.edges),
        receipts=tuple(receipt for one in ledgers for receipt in one.receipts),
        accounting=weakest(one.accounting for one in ledgers),
        balanced=all(one.balanced for one in ledgers),
        violations=tuple(violation for one in ledgers for violation in one.violations),
    )


def _sum(counts: Sequence[RunCounts]) -> RunCounts:
    return RunCounts(**{name: sum(getattr(one, name) for one in counts) for name in RunCounts.model_fields})


def _failure(failed: Sequence[Ended], streams: int) -> RunError:
    """One error of the run for those of its streams, which each destination tells in full."""
    causes = [f"{one.names.stream} ({one.error.code}: {one.error.detail.rstrip('.')})" for one in failed if one.error]
    return RunError(
        code="streams-failed",
        detail=f"{len(failed)} of {streams} streams failed: {listed(causes)}.",
        help=help_section("streams-failed"),
        retryable=any(one.error.retryable for one in failed if one.error),
    )
