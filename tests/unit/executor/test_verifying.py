"""A destination's answer held against the receipt: what became of its rows is told, and more of them is no proof."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from dataaggregator.contracts.ledger import Receipt
from dataaggregator.dataplane.job import HeldLoad, ReadBack
from services.executor.verifying import judged

LOAD = HeldLoad(
    run_id=UUID(int=1), pipeline_id=UUID(int=2), destination="warehouse/t", stream="public.t", write="append"
)
RECEIPT = Receipt(
    destination="warehouse/t", stream="public.t", committed=3, inserted=3, committed_at=datetime(2026, 1, 1, tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("unchanged", "detail", "status", "differences", "told"),
    [
        (3, "", "verified", (), "3 of 3 rows written are there unchanged."),
        (1, "", "verified", (), "1 of 3 rows written are there unchanged."),
        (4, "", "differs", ("rows_unchanged",), "4 of 3 rows written are there unchanged."),
        (None, "Counting took too long.", "verified", (), "as it was committed. Counting took too long."),
    ],
)
def test_the_rows_that_are_there_are_told(
    unchanged: int | None, detail: str, status: str, differences: tuple[str, ...], told: str
) -> None:
    answer = ReadBack(receipt=RECEIPT, provable=True, written=3, unchanged=unchanged, detail=detail)
    one = judged(LOAD, RECEIPT, answer)
    assert (one.status, one.differences, one.rows_written, one.rows_unchanged) == (status, differences, 3, unchanged)
    assert one.detail.endswith(told)


def test_of_a_receipt_that_says_otherwise_the_rows_are_no_comfort() -> None:
    other = RECEIPT.model_copy(update={"checksum": "sha256:0"})
    one = judged(LOAD, RECEIPT, ReadBack(receipt=other, provable=True, written=3, unchanged=3))
    assert (one.status, one.differences) == ("differs", ("checksum",))
