"""cast: exact, or set aside with the original row."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.errors import Invalid

UTC = dt.UTC


def kept_or_rejected(transform: Any, value: Any, word: str, expected: Any) -> None:
    out = transform([{"cast": {"v": word}}], [{"v": value}])
    if expected is None:
        assert out.values == []
        assert out.refused[0].rows.to_pylist() == [{"v": value}]
        assert out.refused[0].rule == f"v: {word}"
    else:
        assert out.values == [{"v": expected}]


@pytest.mark.parametrize(
    ("value", "word", "expected"),
    [
        ("12", "integer", 12),
        (" 12.0 ", "integer", 12),
        ("1.239", "decimal(10,2)", None),
        ("1.230", "decimal(10,2)", Decimal("1.23")),
        (".5", "decimal(10,2)", Decimal("0.50")),
        ("1.00000000000000000000000000000000000000001", "decimal(10,2)", None),
        ("1.5", "integer", None),
        ("1e3", "integer", None),
        ("99999999999", "integer", None),
        ("0.1", "double", 0.1),
        ("1e999", "double", None),
        ("2026-01-31", "date", dt.date(2026, 1, 31)),
        ("2026-01-31 10:00:00", "date", None),
        ("2026-02-30", "date", None),
        ("2026-01-31 10:00:00", "timestamp", dt.datetime(2026, 1, 31, 10)),  # noqa: DTZ001 (without a zone)
        ("2026-01-31T10:00:00+02:00", "timestamp", None),
        ("2026-01-31T10:00:00Z", "timestamp", None),
        ("2026-01-31T10:00:00+02:00", "timestamptz", dt.datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31 10:00:00.1234567", "timestamp", None),
        ("10:00", "time", dt.time(10)),
        ("2026-01-31 10:00", "time", None),
        ("true", "boolean", True),
        ("maybe", "boolean", None),
        (1.7, "integer", None),
        (2.0, "integer", 2),
        (0.1, "decimal(10,2)", Decimal("0.10")),
        (1.239, "decimal(10,2)", None),
        (1e300, "real", None),
        (0.1, "text", "0.1"),
        (300, "tinyint", None),
        (2**53 + 1, "double", None),
        (2, "boolean", None),
        (1, "boolean", True),
        (Decimal("1.5"), "decimal(3,0)", None),
        (dt.datetime(2026, 1, 1, 10), "date", None),  # noqa: DTZ001 (without a zone)
        (dt.datetime(2026, 1, 1), "date", dt.date(2026, 1, 1)),  # noqa: DTZ001 (without a zone)
    ],
)
def test_a_value_is_kept_exactly_or_rejected(transform: Any, value: Any, word: str, expected: Any) -> None:
    kept_or_rejected(transform, value, word, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10:00:00.25", dt.time(10, 0, 0, 250_000)),
        ("10:00:00 AM", None),
        ("10:00:00 PM", None),
        ("10:00:00+02", None),
        ("10:00:00 junk", None),
    ],
)
def test_a_time_of_day_with_more_behind_it_is_rejected(transform: Any, text: str, expected: Any) -> None:
    """The engine stops reading there: ten in the evening was ten in the morning."""
    kept_or_rejected(transform, text, "time", expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31 00:00", dt.date(2026, 1, 31)),
        ("2026-01-31T00:00:00Z", dt.date(2026, 1, 31)),
        ("2026-01-31 00:00+05", None),
        ("2026-01-31 00:00 Europe/Berlin", None),
        ("2026-01-31 10:00 Europe/Berlin", None),
        ("2026-01-31 10:00 Nowhere/Place", None),
    ],
)
def test_the_midnight_of_another_zone_is_no_day(transform: Any, text: str, expected: Any) -> None:
    """The day before, in UTC, as a field of moments says that is cast to a day."""
    kept_or_rejected(transform, text, "date", expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("it's", b"it's"), (r"\xAAb\xbb", b"\xaab\xbb"), (r"C:\x41", None), (r"\x41", None)]
)
def test_text_with_what_looks_like_a_byte_becomes_no_other_bytes(transform: Any, text: str, expected: Any) -> None:
    kept_or_rejected(transform, text, "binary", expected)


def test_null_stays_null(transform: Any) -> None:
    assert transform([{"cast": {"v": "integer"}}], pa.table({"v": pa.array([None], pa.string())})).values == [
        {"v": None}
    ]


def test_on_error_null_keeps_the_row(transform: Any) -> None:
    out = transform([{"cast": {"v": {"type": "integer", "on_error": "null"}}}], [{"v": "x"}, {"v": "1"}])
    assert out.values == [{"v": None}, {"v": 1}]


def test_on_error_fail_ends_it(transform: Any) -> None:
    with pytest.raises(Invalid) as caught:
        transform([{"cast": {"v": {"type": "integer", "on_error": "fail"}}}], [{"v": "x"}])
    assert caught.value.code == "cast-failed"


def test_an_unknown_type_says_which_there_are(transform: Any) -> None:
    with pytest.raises(Invalid, match="unknown type 'strng'; the types are boolean"):
        transform([{"cast": {"v": "strng"}}], [{"v": "x"}])


def test_rejected_rows_carry_what_came_in_not_what_it_was_made_of(transform: Any) -> None:
    steps = [{"derive": {"v": "v || '!'"}}, {"rename": {"v": "w"}}, {"filter": "id > 1"}, {"cast": {"w": "integer"}}]
    out = transform(steps, [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 3, "v": "c"}])
    assert out.refused[0].rows.to_pylist() == [{"id": 2, "v": "b"}, {"id": 3, "v": "c"}]
    assert out.refused[0].stage == "t[3]"


def test_the_first_field_that_fails_is_the_rule(transform: Any) -> None:
    out = transform([{"cast": {"a": "integer", "b": "integer"}}], [{"a": "x", "b": "y"}, {"a": "1", "b": "y"}])
    assert dict(out.counts[0].rejected) == {"a: integer": 1, "b: integer": 1}
