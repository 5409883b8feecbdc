"""Cursor values as people write them: of their type, exactly, or refused; and which of two comes first."""

import pytest

from dataaggregator.connector.cursor_values import forward, wrong
from dataaggregator.dataplane.batch import Cursor

ZONED = "timestamp with time zone"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bigint", "1500"),
        ("integer", "-7"),
        ("int64", "7"),
        (ZONED, "2026-01-01 00:00:10+00"),
        (ZONED, "2026-01-01T00:00:10.123456Z"),
        ("timestamp[us, tz=UTC]", "2026-01-01T00:00:10Z"),
        ("timestamp without time zone", "2026-01-01T00:00:10"),
        ("timestamp(3) without time zone", "2026-01-01 00:00:10.123"),
        ("datetime(6)", "2026-01-01 00:00:10.123456"),
        ("date", "2026-02-28"),
        ("date32[day]", "2026-02-28"),
        ("time without time zone", "12:00:00"),
        ("numeric", "-1.50"),
        ("numeric(12,2)", "1234567890.12"),
        ("decimal128(38, 9)", "1.5"),
        ("double precision", "1e5"),
        ("uuid", "0190b3f4-0000-7000-8000-000000000000"),
        ("character varying(3)", "abc"),
        ("text", "anything at all"),
        ("a type of its own", "anything at all"),
    ],
)
def test_a_value_of_its_type_is_taken(type_: str, value: str) -> None:
    assert wrong(type_, value) is None


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bigint", "x"),
        ("bigint", "0x10"),
        ("bigint", "1_000"),
        ("bigint", ""),
        ("integer", "3000000000"),
        (ZONED, "2026-01-01T00:00:10"),
        ("timestamp without time zone", "2026-01-01T00:00:10Z"),
        ("timestamp without time zone", "2026-01-01T00:00:10.1234567"),
        ("timestamp(3) without time zone", "2026-01-01 00:00:10.1236"),
        ("date", "2026-02-30"),
        ("date", "infinity"),
        ("time without time zone", "25:00:00"),
        ("numeric", "nan"),
        ("numeric(12,2)", "1.234"),
        ("numeric(12,2)", "12345678901.00"),
        ("double precision", "inf"),
        ("double precision", "1_0"),
        ("uuid", "abc"),
        ("character varying(3)", "abcd"),
    ],
)
def test_what_is_none_or_would_be_rounded_to_one_is_refused_with_the_type(type_: str, value: str) -> None:
    told = wrong(type_, value)
    assert told is not None
    assert (type_ in told, repr(value) in told) == (True, True)


@pytest.mark.parametrize(
    ("type_", "before", "after", "ahead"),
    [
        ("bigint", "999", "1000", True),
        ("bigint", "1000", "999", False),
        ("numeric", "1.0", "1.00", True),
        (ZONED, "2026-01-01 00:00:10+00", "2026-01-01T01:00:10+01:00", True),
        (ZONED, "2026-01-01 00:00:10+00", "2026-01-01T00:00:09.999999Z", False),
        ("uuid", "0190b3f4-0000-7000-8000-00000000000a", "0190B3F4-0000-7000-8000-00000000000B", True),
        ("text", "a", "a", True),
        ("text", "a", "b", False),  # the source's collation decides, and is not known here
    ],
)
def test_which_of_two_values_comes_first(type_: str, before: str, after: str, ahead: bool) -> None:
    assert forward(Cursor("at", type_, before), Cursor("at", type_, after)) is ahead


def test_the_beginning_or_another_field_is_never_ahead() -> None:
    held = Cursor("id", "bigint", "1")
    assert not forward(held, None)
    assert not forward(held, Cursor("at", "bigint", "2"))
    assert not forward(held, Cursor("id", "integer", "2"))
