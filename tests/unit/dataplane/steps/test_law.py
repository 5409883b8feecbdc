"""The law of row-wise steps, on any rows: read = written + filtered + rejected, and no row is lost or doubled."""

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.one_of(st.none(), st.sampled_from(["1", "2.5", "x", "", "7", "-3", "9999999999"]), st.text(max_size=5))
ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(-5, 5)), TEXT), max_size=60)
STEPS = st.lists(
    st.sampled_from(
        [
            {"filter": "a > 0"},
            {"filter": "a % 2 = 0 or t is null"},
            {"derive": {"b": "a + 1"}},
            {"validate": [{"rule": "u", "check": {"unique": ["a"]}}]},
            {"validate": [{"rule": "p", "check": "a < 3"}, {"rule": "n", "check": {"not_null": "t"}}]},
            {"validate": [{"rule": "w", "check": "a < 0", "on_fail": "warn"}]},
            {"cast": {"a": "tinyint"}},
            {"cast": {"a": {"type": "utinyint", "on_error": "null"}}},
            {"validate": [{"rule": "i", "check": {"regex": {"field": "t", "pattern": "[0-9]+"}}}]},
            {"select": ["a", "t", "id"]},
        ]
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, steps=STEPS, batch_rows=st.integers(1, 40))
def test_every_row_is_written_filtered_or_rejected(transform: Any, rows: Any, steps: Any, batch_rows: int) -> None:
    kinds: dict[str, pa.DataType] = {"id": pa.int64(), "a": pa.int64(), "t": pa.string()}
    schema = pa.schema(kinds)
    table = pa.Table.from_pylist([{"id": n, "a": a, "t": t} for n, (a, t) in enumerate(rows)], schema)
    out = transform([*steps, {"cast": {"t": "integer"}}], table, batch_rows=batch_rows)
    read = len(rows)
    filtered = 0
    for counts in out.counts:
        gone = sum(counts.filtered.values()) + sum(counts.rejected.values())
        assert counts.read == read == counts.written + gone
        filtered += sum(counts.filtered.values())
        read = counts.written
    ids = [row["id"] for row in out.values]
    refused = [row for message in out.refused for row in message.rows.to_pylist()]
    assert len(ids) == read
    assert all(row == {"id": row["id"], "a": rows[row["id"]][0], "t": rows[row["id"]][1]} for row in refused)
    assert len({*ids, *(row["id"] for row in refused)}) == len(ids) + len(refused) == len(rows) - filtered
