"""Chunks add up: what balances one by one balances as a whole, and one wrong count of any of them is found."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.contracts.ledger import LedgerEdge, LedgerStage, Receipt
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.book import Producer
from dataaggregator.dataplane.chunks import Committed, added, receipts_added
from dataaggregator.dataplane.extract import Extract
from dataaggregator.dataplane.ledger import QUARANTINE, judge

RUN = UUID(int=1)
COUNTS = st.tuples(st.integers(0, 1000), st.integers(0, 50), st.integers(0, 50))
WHEN = datetime(2026, 1, 31, tzinfo=UTC)


def chunk(counts: tuple[int, int, int], number: int = 0) -> Extract:
    sent, filtered, refused = counts
    read = sent + filtered + refused
    stages = (
        LedgerStage(stage="s", kind="source", read=read, written=read),
        LedgerStage(
            stage="f", kind="filter", read=read, written=sent + refused, filtered=filtered,
            filtered_by={"x > 0": filtered} if filtered else {},
        ),
        LedgerStage(
            stage="v", kind="validate", read=sent + refused, written=sent, rejected=refused,
            rejected_by={"known": refused} if refused else {}, warned_by={"old": sent},
        ),
    )  # fmt: skip
    edges = [
        LedgerEdge(from_="s", to="f", handed_over=read, taken=read),
        LedgerEdge(from_="f", to="v", handed_over=sent + refused, taken=sent + refused),
    ]
    if refused:
        edges.append(LedgerEdge(from_="v", to=QUARANTINE, handed_over=refused, taken=refused))
    return Extract(
        takers=("d",),
        came_from={"s": {"field": "id", "type": "bigint", "value": str(number)}},
        cursors={"s": {"field": "id", "type": "bigint", "value": str(number + 1)}},
        stages=stages,
        edges=tuple(edges),
        producers={"v": Producer("v", sent)},
        counts=RunCounts(rows_read=read, rows_filtered=filtered, rows_rejected=refused),
        chunk=number,
    )


def ledger_violations(extract: Extract, taken: int) -> tuple[str, ...]:
    end = LedgerStage(stage="d", kind="destination", read=taken, written=taken)
    last = LedgerEdge(from_="v", to="d", handed_over=extract.producers["v"].written, taken=taken)
    return judge(RUN, [*extract.stages, end], [*extract.edges, last]).violations


@given(st.lists(COUNTS, min_size=1, max_size=6))
def test_chunks_that_balance_are_a_whole_that_does(counts: list[tuple[int, int, int]]) -> None:
    whole = chunk(counts[0])
    for number, one in enumerate(counts[1:], start=1):
        whole = added(whole, chunk(one, number))
    sent = sum(one[0] for one in counts)
    assert ledger_violations(whole, sent) == ()
    assert ledger_violations(whole, sent + 1) != ()
    assert whole.counts.rows_read == sum(sum(one) for one in counts)
    assert (whole.came_from["s"]["value"], whole.cursors["s"]["value"]) == ("0", str(len(counts)))
    assert whole.stages[2].warned_by == {"old": sent}
    assert whole.stages[0].kept is None


def receipt(rows: int, checksum: str, *, verified: bool = True) -> Receipt:
    return Receipt(
        destination="d", stream="t", committed=rows, inserted=rows, checksum=checksum, committed_at=WHEN,
        verified=verified,
    )  # fmt: skip


def test_the_receipts_of_chunks_add_up_in_their_order() -> None:
    one, two, three = receipt(1, "a"), receipt(2, "b"), receipt(4, "c")
    whole = receipts_added(receipts_added(one, two), three)
    assert (whole.committed, whole.inserted, whole.chunks, whole.verified) == (7, 7, 3, True)
    assert whole.checksum not in {receipts_added(receipts_added(two, one), three).checksum, None}
    assert not receipts_added(one, receipt(2, "b", verified=False)).verified


def test_a_record_that_was_cut_short_is_none(tmp_path: Path) -> None:
    assert Committed.of(tmp_path) == Committed()
    Committed(chunks=3, extract=chunk((1, 0, 1)), taken={"read": 1}).save(tmp_path)
    assert Committed.of(tmp_path).chunks == 3
    file = tmp_path / "chunks.json"
    file.write_bytes(file.read_bytes()[:100])
    assert Committed.of(tmp_path) == Committed()
