"""The quarantine: every rejected row stands in a file, exactly, and the index leads to it."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.dataplane.batch import RejectedRow
from dataaggregator.dataplane.quarantine import REASONS, Quarantine

KINDS = {"orders": "source", "clean[0].validate": "validate"}


def test_rows_of_one_stage_and_rule_stand_together_in_one_file(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, tmp_path / "quarantine")
    quarantine.add_unreadable("orders", [RejectedRow("orders.csv:17", "too few fields", "row-ragged", "a,b")])
    rows = pa.record_batch({"price": [Decimal("1.10")], "at": [datetime(2026, 1, 31, tzinfo=UTC)]})
    quarantine.add_refused("clean[0].validate", "positive", "price > 0 is not true", rows)
    quarantine.add_unreadable("orders", [RejectedRow("orders.csv:99", "too many fields", "row-ragged", "a,b,c,d")])
    unreadable, refused = quarantine.close(KINDS)
    assert (unreadable.count, unreadable.kind, unreadable.rule) == (2, "source", "row-ragged")
    assert (unreadable.position, unreadable.reason) == ("orders.csv:17", "too few fields")
    assert unreadable.reasons == {"too few fields": 1, "too many fields": 1}
    assert (refused.count, refused.kind, refused.stage) == (1, "validate", "clean[0].validate")
    assert (refused.position, refused.reasons) == (None, {"price > 0 is not true": 1})
    held = pq.read_table(tmp_path / unreadable.file).to_pylist()
    assert [(row["position"], json.loads(row["row"])) for row in held] == [
        ("orders.csv:17", "a,b"),
        ("orders.csv:99", "a,b,c,d"),
    ]


def test_rows_a_step_refused_keep_the_types_and_values_they_had(tmp_path: Path) -> None:
    values: dict[str, pa.Array[Any]] = {
        "price": pa.array([Decimal("0.10"), None], pa.decimal128(38, 20)),
        "ratio": pa.array([math.nan, -math.inf], pa.float64()),
        "at": pa.array([1, -1], pa.timestamp("ns", "Europe/Zurich")),
        "id": pa.array([UUID(int=1).bytes, None], pa.uuid()),
        "many": pa.array([[2**64 - 1], []], pa.list_(pa.uint64())),
        "part": pa.array([{"a": None}, None], pa.struct([("a", pa.null())])),
    }
    rows = pa.record_batch(values)
    quarantine = Quarantine(tmp_path, tmp_path / "quarantine")
    quarantine.add_refused("t[0].validate", "ok", "not ok", rows)
    (entry,) = quarantine.close({})
    held = pq.read_table(tmp_path / entry.file).select(["row"]).flatten()
    for name, before in values.items():
        after = held[f"row.{name}"].combine_chunks()
        assert after.type == before.type, name
        assert str(after) == str(before), name


def test_rows_parquet_has_no_place_for_are_kept_as_text(tmp_path: Path) -> None:
    """A record of a web API may have an object without fields in it."""
    rows = pa.record_batch({"id": pa.array([1]), "more": pa.array([{}], pa.struct([]))})
    quarantine = Quarantine(tmp_path, tmp_path / "quarantine")
    quarantine.add_refused("t[0].validate", "ok", "not ok", rows)
    (entry,) = quarantine.close({})
    (row,) = pq.read_table(tmp_path / entry.file).to_pylist()
    assert json.loads(row["row"]) == {"id": 1, "more": {}}


def test_rows_of_one_rule_with_other_types_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, tmp_path / "quarantine")
    for rows in ({"id": [1]}, {"id": ["a"]}, {"id": [2]}):
        quarantine.add_refused("t[0].validate", "ok", "not ok", pa.record_batch(rows))
    assert [entry.count for entry in quarantine.close({})] == [2, 1]


def test_of_very_many_reasons_the_first_are_counted(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, tmp_path / "quarantine")
    for _ in range(2):
        rows = [RejectedRow(f"a.csv:{n}", f"{n} is no date", "row-unfit", {"n": str(n)}) for n in range(REASONS + 5)]
        quarantine.add_unreadable("orders", rows)
    (entry,) = quarantine.close(KINDS)
    assert entry.count == 2 * (REASONS + 5)
    assert entry.reasons == {f"{n} is no date": 2 for n in range(REASONS)}


def test_nothing_rejected_makes_no_file(tmp_path: Path) -> None:
    assert Quarantine(tmp_path, tmp_path / "quarantine").close({}) == ()
    assert list(tmp_path.iterdir()) == []
