"""Parameters of a query: settings, cast to the types of their values."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.bound import bound


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        ("it's", "text", "it's"),
        (True, "boolean", "True"),
        (-(2**63), "bigint", "-9223372036854775808"),
        (2**63, "numeric", "9223372036854775808"),
        (0.1, "double precision", "0.1"),
        (date(2026, 2, 28), "date", "2026-02-28"),
        (datetime(2026, 2, 28, 1), "timestamp", "2026-02-28T01:00:00"),  # noqa: DTZ001 - without a zone is a type too
        (datetime(2026, 2, 28, 1, tzinfo=UTC), "timestamptz", "2026-02-28T01:00:00+00:00"),
    ],
)
def test_a_value_is_a_setting_of_its_type(value: Any, type_: str, text: str) -> None:
    sql, settings = bound("SELECT {{ parameters.x }}", {"x": value})
    assert sql == f"SELECT (current_setting('dataaggregator.parameter_0')::{type_})"
    assert settings == {"dataaggregator.parameter_0": text}


def test_each_use_reads_its_own_setting_and_lines_stay() -> None:
    sql, settings = bound("a {{parameters.x}}\nb {{ parameters.y }} {{ parameters.x }}", {"x": 1, "y": 2, "z": 3})
    assert [line.count("parameter_0") for line in sql.splitlines()] == [1, 1]
    assert settings == {"dataaggregator.parameter_0": "1", "dataaggregator.parameter_1": "2"}
    assert bound("SELECT 1", {"x": 1}) == ("SELECT 1", {})


@pytest.mark.parametrize(("values", "told"), [({}, "the parameter x"), ({"x": "a\0b"}, "character 0")])
def test_what_has_no_value_or_one_that_cannot_be_held_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told) as raised:
        bound("SELECT {{ parameters.x }}", values)
    assert raised.value.code == "parameters-invalid"
