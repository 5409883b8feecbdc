"""mask: what is left of a value, which values stay equal, and where no original comes out any more."""

import datetime as dt
import hashlib
import hmac
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.errors import Invalid

from .conftest import MASK_KEY


def _masked(transform: Any, way: str, column: Any, **more: Any) -> list[Any]:
    out = transform([{"mask": {"v": way}}], pa.table({"v": column}), **more)
    (counts,) = out.counts
    assert (counts.kind, counts.read, counts.written) == ("mask", len(column), len(column))
    values: list[Any] = out.table.column("v").to_pylist()
    return values


def _hmac(text: str, key: bytes = MASK_KEY) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


ID = uuid.UUID("0198c0de-0000-7000-8000-000000000001")
MOMENT = dt.datetime(2026, 1, 31, 10, 0, 0, 500, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array(["07 900"]), "07 900"),
        (pa.array(["07"], pa.large_string()), "07"),
        (pa.array(["07"]).dictionary_encode(), "07"),
        (pa.array([7], pa.int8()), "7"),
        (pa.array([-7], pa.int64()), "-7"),
        (pa.array([Decimal("1.50")]), "1.5"),
        (pa.array([Decimal("100")]), "100"),
        (pa.array([Decimal("100.00")]), "100"),
        (pa.array([0.0]), "0.0"),
        (pa.array([-0.0]), "0.0"),
        (pa.array([1.5], pa.float32()), "1.5"),
        (pa.array([True]), "true"),
        (pa.array([dt.date(2026, 1, 31)]), "2026-01-31"),
        (pa.array([MOMENT], pa.timestamp("us", "Europe/Zurich")), "2026-01-31 10:00:00.0005+00"),
        (pa.array([ID.bytes], pa.uuid()), str(ID)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else value,
)
def test_a_hash_is_the_hmac_of_the_values_text(transform: Any, column: Any, text: str) -> None:
    assert _masked(transform, "hash", column) == [_hmac(text)]


VALUES = st.one_of(
    st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), min_size=1),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1),
)


@settings(max_examples=30, deadline=None)
@given(values=VALUES, batch_rows=st.integers(1, 10))
def test_equal_values_have_equal_hashes_and_no_others(transform: Any, values: list[Any], batch_rows: int) -> None:
    column = pa.array(values) if any(value is not None for value in values) else pa.array(values, pa.string())
    expected = [None if value is None else _hmac(str(value)) for value in values]
    assert _masked(transform, "hash", column, batch_rows=batch_rows) == expected


def test_another_workspace_has_other_hashes(transform: Any) -> None:
    other = b"another workspace's key"
    (mine,), (theirs,) = (_masked(transform, "hash", pa.array(["x"]), **more) for more in ({}, {"mask_key": other}))
    assert theirs == _hmac("x", other) != mine


def test_without_its_key_a_mask_does_not_hash(transform: Any) -> None:
    with pytest.raises(ValueError, match="workspace's key"):
        _masked(transform, "hash", pa.array(["x"]), mask_key=None)


def test_what_was_hashed_on_both_sides_still_joins(transform: Any) -> None:
    flow = pa.table({"k": pa.array([Decimal("1.50"), Decimal("2.00"), None]), "id": [1, 2, 3]})
    other = pa.table({"k": [_hmac("1.5"), _hmac("2")], "name": ["a", "b"]})
    steps = [{"mask": {"k": "hash"}}, {"join": {"with": "other", "on": ["k"]}}, {"drop": ["k"]}]
    found = transform(steps, flow, other=other).values
    assert sorted((row["id"], row["name"]) for row in found) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_redacted_text_is_three_stars(transform: Any, kind: pa.DataType) -> None:
    column = pa.array(["secret", None, ""], pa.string()).cast(kind)
    out = transform([{"mask": {"v": "redact"}}], pa.table({"v": column}))
    assert out.schema.field("v").type == pa.string()
    assert out.table.column("v").to_pylist() == ["***", None, "***"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None]),
        pa.array([b"x", None]),
        pa.array([Decimal(1), None], pa.decimal256(50, 2)),
        pa.array([ID.bytes, None], pa.uuid()),
        pa.array(['{"a": 1}', None], pa.json_(pa.string())),
        pa.array([{"a": 1}, None]),
        pa.array([["x"], None]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_redacted_field_that_is_no_text_is_null_and_keeps_its_type(transform: Any, column: Any) -> None:
    out = transform([{"mask": {"v": "redact"}}], pa.table({"v": column}))
    assert out.schema.field("v").type == column.type
    assert out.table.column("v").null_count == 2


def test_a_masked_field_may_be_null_even_if_it_could_not_before(transform: Any) -> None:
    schema = pa.schema([pa.field("v", pa.int64(), nullable=False)])
    out = transform([{"mask": {"v": "redact"}}], pa.table({"v": [1]}, schema=schema))
    assert out.schema.field("v").nullable


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)), min_size=1)
)
def test_partial_shows_the_last_four_of_at_least_eight(transform: Any, values: list[str | None]) -> None:
    expected = [None if v is None else "***" + v[-4:] if len(v) >= 8 else "***" for v in values]
    assert _masked(transform, "partial", pa.array(values, pa.string())) == expected


def test_what_a_later_step_rejects_shows_no_original(transform: Any) -> None:
    rows = [{"id": 1, "mail": "somebody@example.org"}, {"id": -1, "mail": "other@example.org"}]
    before = {"validate": [{"rule": "short", "check": "length(mail) < 20"}]}
    after = {"validate": [{"rule": "positive", "check": "id > 0"}]}
    steps = [before, {"rename": {"mail": "m"}}, {"mask": {"m": "redact"}}, {"rename": {"m": "mail"}}, after]
    early, late = transform(steps, rows).refused
    assert (early.rule, early.rows.to_pylist()) == ("short", rows[:1])
    assert (late.rule, late.rows.to_pylist()) == ("positive", [{"id": -1, "m": "***"}])


@pytest.mark.parametrize(
    ("mask", "column", "field", "words"),
    [
        ({"w": "hash"}, ["x"], "steps[0].mask", "there is no field w here"),
        ({"v": "partial"}, [1.5], "steps[0].mask.v", "v is double; cast it to text first"),
        ({"v": "hash"}, [{"a": 1}], "steps[0].mask.v", "flatten or explode it first"),
        ({"v": "hash"}, [[1]], "steps[0].mask.v", "flatten or explode it first"),
        ({"v": "hash"}, pa.array([Decimal(1)], pa.decimal256(50, 2)), "steps[0].mask", "cannot keep exactly"),
    ],
)
def test_what_cannot_be_masked_so_is_told_before_any_row(
    transform: Any, mask: Any, column: Any, field: str, words: str
) -> None:
    with pytest.raises(Invalid) as caught:
        transform([{"mask": mask}], pa.table({"v": column}).slice(0, 0))
    (error,) = caught.value.errors
    assert error.field == field
    assert words in error.message
