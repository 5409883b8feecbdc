"""The ledger's laws: each holds where it should and breaks when one row is lost anywhere."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.contracts.ledger import Accounting, LedgerEdge, LedgerInput, LedgerStage, Receipt
from dataaggregator.contracts.steps import STEP_KINDS
from dataaggregator.dataplane.ledger import LAWS, QUARANTINE, ROW_WISE, judge, law_of, weakest

RUN = UUID(int=1)
WHEN = datetime(2026, 1, 31, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=10**9)
SIX = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


def edge(start: str, end: str, rows: int) -> LedgerEdge:
    return LedgerEdge(from_=start, to=end, handed_over=rows, taken=rows)


def receipt_of(stage: LedgerStage) -> Receipt:
    return Receipt(
        destination=stage.stage, stream="t", committed=stage.read, committed_at=WHEN, read_back_at=WHEN, verified=True
    )


def whole(*counted: int) -> tuple[list[LedgerStage], list[LedgerEdge], list[Receipt]]:
    """orders and rates → filter, validate → join → aggregate → warehouse; every count follows from six numbers."""
    sent, unreadable, filtered, refused, other, unmatched = counted
    read = sent + filtered + refused
    source = LedgerStage(stage="orders", kind="source", read=read + unreadable, written=read, rejected=unreadable)
    rates = LedgerStage(stage="rates", kind="source", read=other, written=other)
    kept = LedgerStage(
        stage="clean[0].filter", kind="filter", read=read, written=read - filtered,
        filtered=filtered, filtered_by={"amount > 0": filtered},
    )  # fmt: skip
    valid = LedgerStage(
        stage="clean[1].validate", kind="validate", read=read - filtered, written=sent,
        rejected=refused, rejected_by={"known": refused},
    )  # fmt: skip
    unmatched = min(unmatched, sent, other)
    joined = LedgerStage(
        stage="clean[2].join", kind="join", read=sent, written=sent,
        inputs=(
            LedgerInput(input="orders", read=sent, matched=sent - unmatched, unmatched=unmatched),
            LedgerInput(input="rates", read=other, matched=other - unmatched, unmatched=unmatched),
        ),
    )  # fmt: skip
    grouped = LedgerStage(
        stage="clean[3].aggregate", kind="aggregate", read=sent, written=min(sent, 3), groups=min(sent, 3), counted=sent
    )
    loaded = LedgerStage(
        stage="warehouse", kind="destination", read=min(sent, 3), written=min(sent, 3),
        inserted=min(sent, 1), updated=min(sent, 3) - min(sent, 1), unchanged=0, superseded=0,
    )  # fmt: skip
    stages = [source, rates, kept, valid, joined, grouped, loaded]
    edges = [
        edge("orders", "clean[0].filter", read),
        edge("orders", QUARANTINE, unreadable),
        edge("clean[0].filter", "clean[1].validate", read - filtered),
        edge("clean[1].validate", QUARANTINE, refused),
        edge("clean[1].validate", "clean[2].join", sent),
        edge("rates", "clean[2].join", other),
        edge("clean[2].join", "clean[3].aggregate", sent),
        edge("clean[3].aggregate", "warehouse", min(sent, 3)),
    ]
    return stages, edges, [receipt_of(loaded)]


@given(SIX)
def test_a_run_that_counted_every_row_is_balanced(args: tuple[int, ...]) -> None:
    stages, edges, receipts = whole(*args)
    ledger = judge(RUN, stages, edges, receipts)
    assert ledger.violations == ()
    assert ledger.balanced
    assert all(stage.balanced for stage in ledger.stages)


STAGE_COUNTS = (
    "read", "written", "filtered", "rejected", "counted", "groups", "inserted", "updated", "unchanged", "superseded",
)  # fmt: skip


@given(data=st.data(), args=SIX)
def test_one_changed_count_anywhere_makes_it_unbalanced(data: st.DataObject, args: tuple[int, ...]) -> None:
    stages, edges, receipts = whole(*args)
    by = data.draw(st.integers(min_value=-(10**6), max_value=10**6).filter(bool))
    part = data.draw(st.sampled_from(("stage", "input", "edge", "receipt")))
    if part == "stage":
        at = data.draw(st.integers(0, len(stages) - 1))
        stage = stages[at]
        names = [name for name in STAGE_COUNTS if getattr(stage, name) is not None]
        name = data.draw(st.sampled_from(names))
        stages[at] = stage.model_copy(update={name: getattr(stage, name) + by})
    elif part == "input":
        name = data.draw(st.sampled_from(("read", "matched", "unmatched")))
        first, second = stages[4].inputs
        changed = first.model_copy(update={name: getattr(first, name) + by})
        stages[4] = stages[4].model_copy(update={"inputs": (changed, second)})
    elif part == "edge":
        at = data.draw(st.integers(0, len(edges) - 1))
        name = data.draw(st.sampled_from(("handed_over", "taken")))
        edges[at] = edges[at].model_copy(update={name: getattr(edges[at], name) + by})
    else:
        receipts[0] = receipts[0].model_copy(update={"committed": receipts[0].committed + by})
    ledger = judge(RUN, stages, edges, receipts)
    assert not ledger.balanced
    assert ledger.violations


@given(data=st.data(), args=SIX)
def test_a_lost_edge_or_stage_makes_it_unbalanced(data: st.DataObject, args: tuple[int, ...]) -> None:
    stages, edges, receipts = whole(*(count + 1 for count in args))
    if data.draw(st.booleans()):
        del edges[data.draw(st.integers(0, len(edges) - 1))]
    else:
        del stages[data.draw(st.integers(0, len(stages) - 1))]
    assert not judge(RUN, stages, edges, receipts).balanced


def straight(kind: str, **counted: Any) -> list[LedgerStage]:
    rows = counted.pop("rows", 10)
    return [
        LedgerStage(stage="s", kind="source", read=rows, written=rows),
        LedgerStage(stage="x", kind=kind, read=rows, **counted),
        LedgerStage(stage="d", kind="destination", read=counted["written"], written=counted["written"]),
    ]


@pytest.mark.parametrize("kind", sorted(ROW_WISE))
def test_a_row_wise_stage_that_loses_one_row_breaks_its_law(kind: str) -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 9)]
    ledger = judge(RUN, straight(kind, written=9), edges)
    assert ledger.violations == ("x: read 10 is not written 9 + filtered 0 + rejected 0",)
    assert [stage.balanced for stage in ledger.stages] == [True, False, True]


def test_a_filtered_row_without_its_rule_breaks_the_law() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 9)]
    ledger = judge(RUN, straight("filter", written=9, filtered=1), edges)
    assert ledger.violations == ("x: filtered 1 is not what its rules filtered",)


def test_a_rejected_row_that_is_not_in_the_quarantine_breaks_the_law() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 9)]
    ledger = judge(RUN, straight("validate", written=9, rejected=1, rejected_by={"r": 1}), edges)
    assert ledger.violations == ("x: rejected 1, handed 0 over to the quarantine",)


def test_an_aggregate_that_grouped_fewer_rows_than_it_read_breaks_its_law() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 2)]
    assert judge(RUN, straight("aggregate", written=2, counted=10), edges).balanced
    assert not judge(RUN, straight("aggregate", written=2, counted=9), edges).balanced
    assert not judge(RUN, straight("aggregate", written=2), edges).balanced


def test_a_dedupe_that_lost_a_row_breaks_its_law() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 4)]
    assert judge(RUN, straight("dedupe", written=4, kept=4, duplicates=6), edges).balanced
    for counted in ({"kept": 4, "duplicates": 5}, {"kept": 5, "duplicates": 5}, {"kept": 4}, {"duplicates": 6}, {}):
        ledger = judge(RUN, straight("dedupe", written=4, **counted), edges)
        assert not ledger.stages[1].balanced, counted


def test_an_explode_that_lost_an_element_or_a_row_breaks_its_law() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 12)]
    assert judge(RUN, straight("explode", written=12, lengths=12, empty=3), edges).balanced
    assert judge(RUN, straight("explode", written=12, lengths=12, empty=0), edges).balanced
    for lengths, empty in ((13, 3), (11, 3), (12, 11), (None, 3), (12, None)):
        ledger = judge(RUN, straight("explode", written=12, lengths=lengths, empty=empty), edges)
        assert not ledger.stages[1].balanced, (lengths, empty)
    few = straight("explode", written=5, lengths=5, empty=4)
    assert not judge(RUN, few, [edge("s", "x", 10), edge("x", "d", 5)]).balanced


def test_free_sql_has_no_law_and_says_so() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 7)]
    ledger = judge(RUN, straight("sql", written=7, accounting="unaccounted"), edges)
    assert ledger.balanced
    assert ledger.accounting == "unaccounted"
    assert ledger.stages[1].law is None


@pytest.mark.parametrize("kind", ["sql", "python"])
def test_what_was_expected_of_a_free_step_is_its_law(kind: str) -> None:
    for expect, written, balanced in (
        ("one_to_one", 10, True), ("one_to_one", 9, False), ("one_to_one", 11, False),
        ("many_to_one", 9, True), ("many_to_one", 11, False), ("one_to_many", 11, True), ("one_to_many", 9, False),
    ):  # fmt: skip
        stages = straight(kind, written=written, accounting="declared", expect=expect, flow=10)
        ledger = judge(RUN, stages, [edge("s", "x", 10), edge("x", "d", written)])
        assert (ledger.balanced, ledger.accounting) == (balanced, "declared"), (expect, written)
        assert str(ledger.stages[1].law).startswith(f"{expect}: ")


@given(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS))
def test_rows_with_numbers_are_kept_filtered_doubled_or_invented(counted: tuple[int, int, int, int]) -> None:
    kept, filtered, doubled, invented = counted
    read, written = kept + filtered, kept + doubled + invented
    counts: dict[str, Any] = {"kept": kept, "doubled": doubled, "invented": invented}
    counts |= {"filtered": filtered, "filtered_by": {"transform": filtered}}
    source = LedgerStage(stage="s", kind="source", read=read, written=read)
    end = LedgerStage(stage="d", kind="destination", read=written)
    edges = [edge("s", "x", read), edge("x", "d", written)]

    def judged(**other: Any) -> bool:
        stage = LedgerStage(stage="x", kind="python", read=read, written=written, **{**counts, **other})
        return judge(RUN, [source, stage, end], edges).balanced

    assert judged()
    for name in counts:
        other = {"transform": filtered + 1} if name == "filtered_by" else counts[name] + 1
        assert not judged(**{name: other}), name
    assert not judged(kept=None)


def test_groups_of_free_sql_are_held_against_the_rows_read() -> None:
    good: dict[str, Any] = {"counted": 7, "groups": 4, "filtered": 3, "filtered_by": {"where": 3}}
    edges = [edge("s", "x", 10), edge("x", "d", 4)]
    wrongs: tuple[dict[str, Any], ...] = ({}, {"counted": 6}, {"counted": 8}, {"groups": 5}, {"filtered": 2})
    for wrong in (*wrongs, {"filtered_by": {}}):
        ledger = judge(RUN, straight("sql", written=4, **good | wrong), edges)
        assert ledger.stages[1].balanced is (not wrong), wrong
    assert str(ledger.stages[1].law).startswith("the hidden count(*)")
    assert not judge(RUN, straight("python", written=4, **good), edges).balanced, "Python counts no groups"


def test_a_free_step_that_claims_more_than_it_counted_is_not_believed() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 7)]
    for claim in ({"accounting": "declared"}, {"accounting": "proven"}, {"accounting": "unaccounted", "filtered": 3}):
        assert not judge(RUN, straight("python", written=7, **claim), edges).balanced, claim


def test_a_destination_is_judged_when_its_receipt_is_there() -> None:
    stages = straight("filter", written=10)
    edges = [edge("s", "x", 10), edge("x", "d", 10)]
    assert judge(RUN, stages, edges).balanced
    for inserted, balanced in ((10, True), (9, False), (11, False)):
        stages[2] = stages[2].model_copy(update={"inserted": inserted, "written": inserted})
        assert judge(RUN, stages, edges).balanced is balanced
    stages[2] = stages[2].model_copy(
        update={"inserted": 1, "updated": 2, "unchanged": 3, "superseded": 4, "deleted": 99, "written": 3}
    )
    assert judge(RUN, stages, edges).balanced


def test_a_receipt_that_was_not_read_back_is_no_proof() -> None:
    stages = straight("filter", written=10)
    edges = [edge("s", "x", 10), edge("x", "d", 10)]
    unread = receipt_of(stages[2]).model_copy(update={"verified": False})
    assert judge(RUN, stages, edges, [unread]).violations == ("d: the receipt could not be read back",)


@pytest.mark.parametrize(
    ("parts", "whole_is"),
    [
        ([], "proven"),
        (["proven", "proven"], "proven"),
        (["proven", "declared"], "declared"),
        (["declared", "unaccounted", "proven"], "unaccounted"),
    ],
)
def test_the_accounting_is_the_weakest_stages(parts: list[Accounting], whole_is: str) -> None:
    assert weakest(parts) == whole_is


def test_every_kind_of_step_has_its_law_written_down() -> None:
    for kind in (*STEP_KINDS, "source", "destination"):
        assert law_of(kind) in LAWS.values()


@given(SIX)
def test_delete_marks_add_up_with_what_a_merge_did(counted: tuple[int, ...]) -> None:
    inserted, updated, unchanged, superseded, deleted, beside = counted
    taken = inserted + updated + unchanged + superseded + deleted
    source = LedgerStage(stage="s", kind="source", read=taken, written=taken)

    def broken(**other: Any) -> tuple[str, ...]:
        counts: dict[str, Any] = {"inserted": inserted, "updated": updated, "unchanged": unchanged, "deleted": deleted}
        counts |= {"superseded": superseded, "marked": deleted + beside, "written": inserted + updated} | other
        end = LedgerStage(stage="d", kind="destination", read=taken, **counts)
        return judge(RUN, [source, end], [edge("s", "d", taken)], [receipt_of(end)]).violations

    assert broken() == ()
    assert broken(deleted=deleted + 1) != ()
    assert broken(unchanged=unchanged + 1) != ()
    assert broken(deleted=deleted + beside + 1, unchanged=unchanged - beside - 1) != ()  # more than were marked
    assert (broken(marked=None) == ()) is (deleted == 0)  # without marks what a replace removed stands apart


def test_rows_that_a_kept_source_deletes_add_up() -> None:
    edges = [edge("s", "x", 10), edge("x", "d", 4)]
    whole: dict[str, Any] = {"written": 4, "kept": 4, "duplicates": 4, "deleted": 2, "marked": 3}
    assert judge(RUN, straight("keep", **whole), edges).balanced
    for other in ({"deleted": 1}, {"deleted": 3}, {"marked": 1}, {"marked": None}, {"duplicates": 6}):
        assert not judge(RUN, straight("keep", **whole | other), edges).balanced
