"""The ledger's laws: pure judgement over counted stages, edges and receipts; nothing is loaded against it."""

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from dataaggregator.contracts.ledger import Accounting, Ledger, LedgerEdge, LedgerStage, Receipt
from dataaggregator.dataplane.expectation import WORDS, holds

QUARANTINE = "quarantine"
FREE = frozenset({"sql", "python"})
ROW_WISE = frozenset({"select", "drop", "rename", "cast", "derive", "filter", "validate", "mask", "flatten"})
SOURCES = frozenset({"source", "kept"})
_WEAKEST_FIRST: tuple[Accounting, ...] = ("unaccounted", "declared", "proven")

LAWS = {
    "source": "read = written + rejected",
    "kept": "read = written",
    "row-wise": "read = written + filtered + rejected, each attributed to its rule",
    "explode": "written = the lengths of all lists; every other row read has an empty one",
    "dedupe": "read = kept + duplicates",
    "keep": "read, new and kept = kept + duplicates",
    "join": "per input: read = matched + unmatched",
    "aggregate": "the hidden count(*) summed over the groups = read",
    "sql": None,
    "python": None,
    "destination": "taken = inserted + updated + unchanged + superseded + rejected",
}
# Where rows can say that others are to go.
LAWS_OF_DELETES = {
    "keep": "read, new and kept = kept + duplicates + deleted",
    "destination": "taken = inserted + updated + unchanged + superseded + rejected + deleted; deleted <= marked",
}


ROW_IDS = "read = kept + filtered, written = kept + doubled + invented, by the number of each row"
GROUPS = "the hidden count(*) summed over the groups + filtered = read"


def law_of(kind: str) -> str | None:
    """The law of a kind of stage in words; None where none can be proved. An unknown kind is a mistake of ours."""
    return LAWS["row-wise" if kind in ROW_WISE else kind]


def _law(stage: LedgerStage) -> str | None:
    """That of its kind, or what a step without one was told to keep to."""
    if stage.marked is not None:
        return LAWS_OF_DELETES[stage.kind]
    if stage.kind not in FREE:
        return law_of(stage.kind)
    expected = f"{stage.expect}: {WORDS[stage.expect]}" if stage.expect not in (None, "any") else None
    proved = ROW_IDS if stage.kept is not None else GROUPS if stage.counted is not None else None
    return "; ".join(law for law in (expected, proved) if law) or None


def weakest(accountings: Iterable[Accounting]) -> Accounting:
    """The accounting of a whole is that of its weakest part; of nothing it is proven."""
    return min(accountings, key=_WEAKEST_FIRST.index, default="proven")


def judge(
    run_id: UUID, stages: Sequence[LedgerStage], edges: Sequence[LedgerEdge], receipts: Sequence[Receipt] = ()
) -> Ledger:
    """Every law held against the counts. A destination's own law waits for its receipt's counts (null until then)."""
    judged = []
    violations: list[str] = []
    for stage in stages:
        broken = [*_broken(stage), *_loose(stage, edges)]
        violations += broken
        judged.append(stage.model_copy(update={"law": _law(stage), "balanced": not broken}))
    violations += _unequal(edges, {stage.stage for stage in stages})
    violations += _unproved(receipts, {stage.stage: stage for stage in stages})
    return Ledger(
        run_id=run_id,
        stages=tuple(judged),
        edges=tuple(edges),
        receipts=tuple(receipts),
        accounting=weakest(stage.accounting for stage in stages),
        balanced=not violations,
        violations=tuple(violations),
    )


def _broken(stage: LedgerStage) -> Iterator[str]:
    """The stage's own law."""
    name = stage.stage
    if stage.kind in SOURCES and stage.read != stage.written + stage.rejected:
        yield f"{name}: read {stage.read} is not written {stage.written} + rejected {stage.rejected}"
    if stage.kind in ROW_WISE:
        yield from _broken_row_wise(stage)
    elif stage.kind in FREE:
        yield from _broken_free(stage)
    elif stage.filtered or stage.filtered_by:
        yield f"{name}: filtered {stage.filtered}, but only steps that look at one row can filter"
    if stage.kind == "explode":
        yield from _broken_explode(stage)
    if stage.kind in ("dedupe", "keep"):
        yield from _broken_dedupe(stage)
    if stage.kind == "join":
        yield from _broken_join(stage)
    if stage.kind == "aggregate" and stage.counted != stage.read:
        yield f"{name}: read {stage.read} is not the {stage.counted} rows counted in the groups"
    if stage.kind == "aggregate" and stage.groups not in (None, stage.written):
        yield f"{name}: wrote {stage.written} rows of {stage.groups} groups"
    if stage.kind == "destination" and stage.inserted is not None:
        yield from _broken_destination(stage)


def _broken_explode(stage: LedgerStage) -> Iterator[str]:
    name = stage.stage
    if stage.lengths is None or stage.empty is None:
        yield f"{name}: an explode counts its lists' elements and the empty lists, this one counted none"
        return
    if stage.written != stage.lengths:
        yield f"{name}: wrote {stage.written} rows of lists with {stage.lengths} elements"
    if not 0 <= stage.read - stage.empty <= stage.lengths:
        yield f"{name}: read {stage.read}, of which {stage.empty} were empty, cannot have {stage.lengths} elements"


def _broken_dedupe(stage: LedgerStage) -> Iterator[str]:
    name = stage.stage
    if stage.kept is None or stage.duplicates is None:
        yield f"{name}: a {stage.kind} counts the rows it keeps and their duplicates, this one counted none"
        return
    gone = stage.deleted or 0
    if stage.read != stage.kept + stage.duplicates + gone:
        more = f" + deleted {gone}" if gone else ""
        yield f"{name}: read {stage.read} is not kept {stage.kept} + duplicates {stage.duplicates}{more}"
    if gone > (stage.marked or 0):
        yield f"{name}: {gone} rows are gone, and {stage.marked or 0} said so"
    if stage.written != stage.kept:
        yield f"{name}: wrote {stage.written} rows of the {stage.kept} kept"


def _broken_join(stage: LedgerStage) -> Iterator[str]:
    """What a join read as a stage is what came in by its first input, the flow."""
    name = stage.stage
    if not stage.inputs:
        yield f"{name}: a join counts each of its inputs, this one counted none"
    elif stage.read != stage.inputs[0].read:
        yield f"{name}: read {stage.read} is not the {stage.inputs[0].read} rows of {stage.inputs[0].input}"
    for one in stage.inputs:
        if one.read != one.matched + one.unmatched:
            yield f"{name}: of {one.input} read {one.read} is not matched {one.matched} + unmatched {one.unmatched}"


def _broken_free(stage: LedgerStage) -> Iterator[str]:
    """Free SQL and Python: what was expected of them, and their rows by number where they carried one."""
    name, flow = stage.stage, stage.read if stage.flow is None else stage.flow
    if not holds(stage.expect, flow, stage.written):
        yield f"{name}: wrote {stage.written} rows for {flow}, where {stage.expect} was expected"
    if stage.accounting == "declared" and stage.expect in (None, "any"):
        yield f"{name}: says declared, and nothing is"
    if stage.accounting != "proven":
        if stage.filtered or stage.filtered_by:
            yield f"{name}: filtered {stage.filtered}, but its rows have no numbers"
        return
    if stage.filtered != sum(stage.filtered_by.values()):
        yield f"{name}: filtered {stage.filtered} is not what its rules filtered"
    if stage.kind == "sql" and stage.counted is not None:
        yield from _broken_groups(stage)
        return
    if stage.kept is None or stage.doubled is None or stage.invented is None:
        yield f"{name}: rows with numbers are kept, doubled or invented, this one counted none"
        return
    if stage.read != stage.kept + stage.filtered:
        yield f"{name}: read {stage.read} is not kept {stage.kept} + filtered {stage.filtered}"
    if stage.written != stage.kept + stage.doubled + stage.invented:
        parts = f"kept {stage.kept} + doubled {stage.doubled} + invented {stage.invented}"
        yield f"{name}: wrote {stage.written}, which is not {parts}"


def _broken_groups(stage: LedgerStage) -> Iterator[str]:
    """Free SQL that groups its rows."""
    if stage.read != (stage.counted or 0) + stage.filtered:
        gone = f"filtered {stage.filtered}"
        yield f"{stage.stage}: read {stage.read} is not the {stage.counted} rows counted in the groups + {gone}"
    if stage.groups != stage.written:
        yield f"{stage.stage}: wrote {stage.written} rows of {stage.groups} groups"


def _broken_row_wise(stage: LedgerStage) -> Iterator[str]:
    name = stage.stage
    if stage.read != stage.written + stage.filtered + stage.rejected:
        gone = f"filtered {stage.filtered} + rejected {stage.rejected}"
        yield f"{name}: read {stage.read} is not written {stage.written} + {gone}"
    if sum(stage.filtered_by.values()) != stage.filtered:
        yield f"{name}: filtered {stage.filtered} is not what its rules filtered"
    if sum(stage.rejected_by.values()) != stage.rejected:
        yield f"{name}: rejected {stage.rejected} is not what its rules rejected"


def _broken_destination(stage: LedgerStage) -> Iterator[str]:
    held = sum(count or 0 for count in (stage.inserted, stage.updated, stage.unchanged, stage.superseded))
    gone = 0 if stage.marked is None else stage.deleted or 0
    if stage.read != held + stage.rejected + gone:
        parts = f"inserted {stage.inserted} + updated {stage.updated or 0} + unchanged {stage.unchanged or 0}"
        more = f"superseded {stage.superseded or 0} + rejected {stage.rejected}"
        last = "" if stage.marked is None else f" + deleted {gone}"
        yield f"{stage.stage}: taken {stage.read} is not {parts} + {more}{last}"
    if gone > (stage.marked or 0):
        yield f"{stage.stage}: deleted {gone} rows, and {stage.marked} said that theirs was to go"
    if stage.written != (stage.inserted or 0) + (stage.updated or 0):
        yield f"{stage.stage}: written {stage.written} is not inserted {stage.inserted} + updated {stage.updated or 0}"


def _loose(stage: LedgerStage, edges: Sequence[LedgerEdge]) -> Iterator[str]:
    """Stage and edges must tell the same story: a count that stands in one only could be lost unseen."""
    name = stage.stage
    if stage.kind not in SOURCES:
        taken = sum(edge.taken for edge in edges if edge.to == name)
        if taken != _intake(stage):
            yield f"{name}: counted {_intake(stage)} rows in, its edges brought {taken}"
    outgoing = [edge for edge in edges if edge.from_ == name]
    if stage.kind != "destination":
        onward = [edge for edge in outgoing if edge.to != QUARANTINE]
        if not onward:
            yield f"{name}: nobody took its rows"
        for edge in onward:
            if edge.handed_over != stage.written:
                yield f"{name}: wrote {stage.written}, handed {edge.handed_over} over to {edge.to}"
    set_aside = sum(edge.handed_over for edge in outgoing if edge.to == QUARANTINE)
    if set_aside != stage.rejected:
        yield f"{name}: rejected {stage.rejected}, handed {set_aside} over to the quarantine"


def _intake(stage: LedgerStage) -> int:
    """Rows that came in over all edges; a join counts them by input."""
    return sum(one.read for one in stage.inputs) if stage.kind == "join" else stage.read


def _unequal(edges: Sequence[LedgerEdge], stages: set[str]) -> Iterator[str]:
    for edge in edges:
        if edge.handed_over != edge.taken:
            yield f"{edge.from_} → {edge.to}: handed over {edge.handed_over}, taken {edge.taken}"
        if edge.from_ not in stages or edge.to not in stages | {QUARANTINE}:
            yield f"{edge.from_} → {edge.to}: the edge of a stage that counted nothing"


def _unproved(receipts: Sequence[Receipt], stages: dict[str, LedgerStage]) -> Iterator[str]:
    for receipt in receipts:
        stage = stages.get(receipt.destination)
        if stage is None:
            yield f"{receipt.destination}: a receipt without a stage"
        elif receipt.committed != stage.read - stage.rejected:
            yield f"{receipt.destination}: took {stage.read - stage.rejected}, the receipt says {receipt.committed}"
        if not receipt.verified and (stage is None or stage.accounting == "proven"):
            yield f"{receipt.destination}: the receipt could not be read back"
