"""Rows that a source has left out by a condition, in the counts of the filter behind it."""

import pytest

from dataaggregator.dataplane.batch import LeftOut
from dataaggregator.dataplane.sandbox.messages import StageCounts
from dataaggregator.dataplane.tally import Tally
from dataaggregator.errors import Permanent


def counts(read: int, **filtered: int) -> StageCounts:
    gone = {f"condition is {why}": count for why, count in filtered.items()}
    return StageCounts("t.early", "t", "filter", "proven", read, read - sum(filtered.values()), filtered=gone)


def test_a_filter_has_read_what_was_left_out_for_it_each_time_it_tells_its_counts() -> None:
    tally = Tally()
    tally.left_out["t.early"] = LeftOut(false=3, null=2)
    for read in (0, 7, 10):
        tally.report(counts(read))
        reported = tally.reported["t.early"]
        assert (reported.read, reported.written) == (read + 5, read)
        assert reported.filtered == {"condition is false": 3, "condition is null": 2}
    assert (tally.counts().rows_filtered, tally.progress()[-1].filtered) == (5, 5)


def test_a_cause_that_left_out_nothing_is_none() -> None:
    assert LeftOut(false=0, null=1).by_rule == {"condition is null": 1}


def test_a_source_and_the_engine_that_disagree_are_no_ledger() -> None:
    """What the engine filters of such rows the source has taken for true."""
    tally = Tally()
    tally.left_out["t.early"] = LeftOut(false=3, null=0)
    with pytest.raises(Permanent, match="the source sent 2 rows") as caught:
        tally.report(counts(7, false=2))
    assert caught.value.code == "unbalanced"


def test_other_stages_are_as_they_tell() -> None:
    tally = Tally()
    tally.report(counts(7, false=2))
    assert (tally.reported["t.early"].read, tally.reported["t.early"].filtered) == (7, {"condition is false": 2})
