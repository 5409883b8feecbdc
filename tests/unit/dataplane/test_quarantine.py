"""The quarantine: every rejected row stands in a file, exactly, and the index leads to it."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.dataplane.batch import RejectedRow
from dataaggregator.dataplane.quarantine import Quarantine


def test_rows_of_one_stage_and_rule_stand_together_in_one_file(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, tmp_path / "quarantine")
    quarantine.add_unreadable("orders", [RejectedRow("orders.csv:17", "too few fields", "row-ragged", "a,b")])
    rows = pa.record_batch({"price": [Decimal("1.10")], "at": [datetime(2026, 1, 31, tzinfo=UTC)]})
    quarantine.add_refused("clean[0].validate", "positive", "price > 0 is not true", rows)
    quarantine.add_unreadable("orders", [RejectedRow("orders.csv:99", "too many fields", "row-ragged", "a,b,c,d")])
    unreadable, refused = quarantine.close()
    assert (unreadable.count, unreadable.rule, unreadable.position) == (2, "row-ragged", "orders.csv:17")
    assert (refused.count, refused.stage, refused.position) == (1, "clean[0].validate", None)
    held = pq.read_table(tmp_path / unreadable.file).to_pylist()
    assert [(row["position"], json.loads(row["row"])) for row in held] == [
        ("orders.csv:17", "a,b"),
        ("orders.csv:99", "a,b,c,d"),
    ]
    (row,) = pq.read_table(tmp_path / refused.file).to_pylist()
    assert json.loads(row["row"]) == {"price": "1.10", "at": "2026-01-31T00:00:00+00:00"}


def test_nothing_rejected_makes_no_file(tmp_path: Path) -> None:
    assert Quarantine(tmp_path, tmp_path / "quarantine").close() == ()
    assert list(tmp_path.iterdir()) == []
