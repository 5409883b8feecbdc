"""Rows as JSON: also values that Python has no type for are shown as what they are."""

import pyarrow as pa

from dataaggregator.dataplane.showing import rows_as_json


def test_times_finer_or_farther_than_pythons_own_are_shown_exactly() -> None:
    fine = pa.array([1_000_000_005], pa.timestamp("ns"))
    values = {
        "id": pa.array([7]),
        "at": fine,
        "far": pa.array([300_000_000_000], pa.timestamp("s")),
        "day": pa.array([5], pa.time64("ns")),
        "all": pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), fine),
        "part": pa.StructArray.from_arrays([fine], ["at"]),
        "none": pa.array([None], pa.timestamp("ns")),
    }
    (row,) = rows_as_json(pa.record_batch(values))
    assert row["id"] == 7
    assert row["at"] == "1970-01-01 00:00:01.000000005"
    assert row["far"].startswith("11476-")
    assert row["day"] == "00:00:00.000000005"
    assert (row["all"], row["part"], row["none"]) == ([row["at"]], {"at": row["at"]}, None)
