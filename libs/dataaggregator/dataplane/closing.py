"""The end of an attempt: the ledger judged before anything is committed, and the outcome written up."""

from collections.abc import Iterator, Sequence
from typing import Literal

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.ledger import Ledger, LedgerEdge, LedgerStage
from dataaggregator.contracts.policies import OnRejected
from dataaggregator.contracts.run import RunCounts, RunError
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.book import Producer
from dataaggregator.dataplane.extract import Extract
from dataaggregator.dataplane.job import KnownCursor, QuarantineEntry, RunJob, RunOutcome
from dataaggregator.dataplane.ledger import QUARANTINE, judge
from dataaggregator.dataplane.load import Load
from dataaggregator.errors import Permanent


def judge_before_commit(job: RunJob, extract: Extract, loads: Sequence[Load], before: tuple[int, int] = (0, 0)) -> None:
    """Raises Permanent when a law does not hold, or when more rows were rejected than the pipeline allows, with those
    read and rejected in the chunks `before`.

    A load that failed already is taken as whole: its rows are not committed, and the others must not pay for it.
    """
    stages, edges = _leading_to(extract, loads)
    for load in loads:
        producer = extract.producers[load.definition.input]
        stage, (taken, *aside) = load.stage(), load.edges(producer)
        if load.state == "failed":
            stage = stage.model_copy(update={"read": producer.written})
            taken = taken.model_copy(update={"taken": producer.written})
        stages.append(stage)
        edges += [taken, *aside]
    read, rejected = (sum(both) for both in zip(before, _read_and_rejected(extract, loads), strict=True))
    refuse(judge(job.run_id, stages, edges), job.definition.on_rejected, read, rejected)


def judge_refused(job: RunJob, extract: Extract, loads: Sequence[Load]) -> None:
    """Raises Permanent where a destination, as it commits, has refused more rows than the pipeline allows."""
    _refuse_rejected(job.definition.on_rejected, *_read_and_rejected(extract, loads))


def refuse(ledger: Ledger, allowed: OnRejected | None, read: int, rejected: int) -> None:
    """Raises Permanent where `judge_before_commit` does."""
    if not ledger.balanced:
        raise Permanent("unbalanced", f"The ledger does not add up: {'; '.join(ledger.violations[:3])}.")
    _refuse_rejected(allowed, read, rejected)


def _refuse_rejected(allowed: OnRejected | None, read: int, rejected: int) -> None:
    if allowed is not None and allowed.then == "fail" and allowed.exceeded(rejected, read):
        raise Permanent("rejected-over-threshold", allowed.told(rejected, read))


class Books:
    """Gathers what the passes counted and what became of each load."""

    def __init__(self, job: RunJob) -> None:
        self._run_id = job.run_id
        self._allowed = job.definition.on_rejected
        self._replicated = job.replicated
        self._entries: list[tuple[Extract, list[Load]]] = []
        self._lost: list[Load] = []
        self._cursors: dict[tuple[str, str], KnownCursor] = {}

    def add(self, extract: Extract, loads: Sequence[Load]) -> None:
        for known, taking in self._entries:
            if known == extract:
                taking.extend(loads)
                return
        self._entries.append((extract, list(loads)))

    def settled(self, load: Load, earlier: Sequence[Extract]) -> None:
        """An earlier attempt committed it: the counts are those of its newest record in the run folder, or those noted
        beside its receipt."""
        for extract in load.records(earlier):
            if load.name in extract.takers and load.definition.input in extract.producers:
                self.add(extract, [load])
                self.moved_by(load, extract)
                return
        self.lose(load)

    def lose(self, load: Load) -> None:
        """It is committed, and nobody knows what was counted before it."""
        self._lost.append(load)

    def moved_by(self, load: Load, extract: Extract) -> None:
        """Its rows are committed, and with them where reading goes on."""
        for key, cursor in extract.cursors.items():
            if key in load.request.source_streams:
                self.moved(load, key, Cursor.from_json(cursor))

    def moved(self, load: Load, source: str, cursor: Cursor) -> None:
        known = KnownCursor(destination=load.name, source=source, cursor=cursor.to_json())
        self._cursors[load.name, source] = known

    def outcome(self, loads: Sequence[Load], error: RunError | None, *, cancelled: bool) -> RunOutcome:
        ledger = self._ledger()
        whole = bool(loads) and all(load.state == "committed" for load in loads)
        if error is None:
            error = next((load.error for load in loads if load.error is not None), None)
        if whole and error is None and not ledger.balanced:
            detail = f"The ledger does not add up: {'; '.join(ledger.violations[:3])}."
            error = RunError(code="unbalanced", detail=detail, help=help_section("unbalanced"))
        status: Literal["succeeded", "failed", "cancelled"] = "failed"
        if whole and error is None:
            status = "succeeded"
        elif cancelled:
            status, error = "cancelled", None
        return RunOutcome(
            status=status,
            error=error,
            ledger=ledger,
            destinations=tuple(load.outcome(error, cancelled=cancelled) for load in loads),
            cursors=tuple(self._cursors.values()),
            counts=self._counts(loads),
            quarantine=self._quarantine(),
            warnings=self._warnings(),
            emptied=tuple(dict.fromkeys(one for extract, _ in self._entries for one in extract.emptied)),
        )

    def _ledger(self) -> Ledger:
        stages: list[LedgerStage] = []
        edges: list[LedgerEdge] = []
        receipts = []
        for number, (extract, loads) in enumerate(self._entries):
            mark = f" (pass {number + 1})" if number else ""
            leading, between = _leading_to(extract, loads)
            ours = {stage.stage for stage in leading}
            stages += [stage.model_copy(update={"stage": stage.stage + mark}) for stage in leading]
            made = [
                *between,
                *(edge for load in loads for edge in load.edges(extract.producers[load.definition.input])),
            ]
            edges += [_marked(edge, ours, mark) for edge in made]
            stages += [load.stage() for load in loads]
            receipts += [load.receipt for load in loads if load.receipt is not None]
        for load in self._lost:
            counts = LedgerStage(stage=f"{load.name} (counts lost)", kind="source", accounting="unaccounted")
            counts = counts.model_copy(update={"read": load.counted.read, "written": load.counted.read})
            stages += [counts, load.stage()]
            edges += load.edges(Producer(counts.stage, load.counted.read))
            receipts += [load.receipt] if load.receipt is not None else []
        return judge(self._run_id, stages, edges, receipts)

    def _counts(self, loads: Sequence[Load]) -> RunCounts:
        extracts = [extract.counts for extract, _ in self._entries]
        committed = [load for load in loads if load.receipt is not None]
        return RunCounts(
            rows_read=sum(one.rows_read for one in extracts) + self._read_at_least(),
            rows_written=sum(load.counted.written for load in committed),
            rows_filtered=sum(one.rows_filtered for one in extracts),
            rows_rejected=sum(one.rows_rejected for one in extracts) + sum(load.counted.rejected for load in loads),
            bytes_read=sum(one.bytes_read for one in extracts),
            bytes_written=sum(load.counted.bytes for load in committed),
        )

    def _read_at_least(self) -> int:
        """Where counts are lost: what the destinations have was read."""
        return max((load.counted.read for load in self._lost), default=0)

    def _quarantine(self) -> tuple[QuarantineEntry, ...]:
        """Each entry with the destinations that have the other rows of its pass, for a replay to go to the same."""
        found = []
        for extract, loads in self._entries:
            behind = {
                load.name: {stage.stage for stage in _leading_to(extract, [load])[0]}
                for load in loads
                if load.state == "committed"
            }
            for entry in extract.quarantine:
                takers = tuple(name for name, stages in behind.items() if entry.stage in stages)
                found.append(entry.model_copy(update={"destinations": entry.destinations or takers}))
            for load in loads:
                found += self._set_aside_at(load)
        return (*found, *(entry for load in self._lost for entry in self._set_aside_at(load)))

    def _set_aside_at(self, load: Load) -> Iterator[QuarantineEntry]:
        """What a destination rejected is lacking there, and nowhere else."""
        behind = (load.name,) if load.state == "committed" else ()
        for entry in load.admission.apart().quarantine:
            changes = {"destinations": entry.destinations or behind, "replicated": self._replicated}
            yield entry.model_copy(update=changes)

    def _warnings(self) -> tuple[str, ...]:
        lost = [
            f"{load.name}: an attempt before this one committed {load.counted.read} rows; its other counts are lost."
            for load in self._lost
        ]
        told = [warning for extract, loads in self._entries for warning in self._warnings_of(extract, loads)]
        return (*told, *lost)

    def _warnings_of(self, extract: Extract, loads: Sequence[Load]) -> Iterator[str]:
        yield from extract.warnings
        for load in loads:
            yield from load.admission.warnings()
        read, rejected = _read_and_rejected(extract, loads)
        if self._allowed is not None and self._allowed.then == "warn" and self._allowed.exceeded(rejected, read):
            yield self._allowed.told(rejected, read)


def _read_and_rejected(extract: Extract, loads: Sequence[Load]) -> tuple[int, int]:
    """Rejected by steps, and by these destinations."""
    counts = extract.counts
    return counts.rows_read, counts.rows_rejected + sum(load.counted.rejected for load in loads)


def _leading_to(extract: Extract, loads: Sequence[Load]) -> tuple[list[LedgerStage], list[LedgerEdge]]:
    """The part of a pass whose rows these loads take; what others lack stands where they have it from."""
    reached = {extract.producers[load.definition.input].stage for load in loads}
    before = 0
    while len(reached) > before:
        before = len(reached)
        reached |= {edge.from_ for edge in extract.edges if edge.to in reached}
    stages = [stage for stage in extract.stages if stage.stage in reached]
    edges = [edge for edge in extract.edges if edge.from_ in reached and edge.to in reached | {QUARANTINE}]
    return stages, edges


def _marked(edge: LedgerEdge, ours: set[str], mark: str) -> LedgerEdge:
    start = edge.from_ + mark if edge.from_ in ours else edge.from_
    end = edge.to + mark if edge.to in ours and edge.to != QUARANTINE else edge.to
    return edge.model_copy(update={"from_": start, "to": end})
