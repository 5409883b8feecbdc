"""What fails on a row: its place in the definition always, its values only for who may see rows."""

from collections.abc import Mapping
from typing import Any

import pytest

from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.errors import Invalid

SECRET = "Jane Roe, 756.9217.0769.85"
ROWS = [
    {"id": 1, "big": 1, "name": "7", "doc": "{}", "moment": "2020-01-01"},
    {"id": 2, "big": 9_223_372_036_854_775_807, "name": SECRET, "doc": '{"' + SECRET, "moment": f"2020-01-32 {SECRET}"},
]
NUMBER = "9223372036854775807"
FAILING = {
    "name::INTEGER": "a value of name cannot be converted to INT32",
    "big::SMALLINT": "a value of big cannot be converted to INT16",
    "name::UUID": "a value of name cannot be converted to UUID",
    "name::INTEGER[]": "a value of name cannot be converted to INTEGER[]",
    "doc::JSON": "a value of doc cannot be converted",
    "moment::DATE": "a value of moment cannot be converted",
    "date_trunc(name, TIMESTAMP '2020-01-01')": "a value cannot be converted",
    "big + 1": "overflow in addition of INT64",
    "big * id": "overflow in multiplication of INT64",
    "id % (id - 1)": "Division by zero",
    "strptime(name, '%Y')": "the engine refuses a value (invalid input)",
    "json_extract(doc, '$.a')": "the engine refuses a value (invalid input)",
    "regexp_matches('x', name || '(')": "the engine refuses a value (invalid input)",
    "repeat(name, big)": "the engine refuses a value (out of range)",
    "from_base64(name)": "a value cannot be converted",
}
STEPS: Mapping[str, Any] = {
    "derive": lambda text: {"derive": {"x": text}},
    "filter": lambda text: {"filter": f"({text}) IS NOT NULL"},
    "validate": lambda text: {"validate": [{"rule": "r", "check": f"({text}) IS NOT NULL"}]},
    "aggregate": lambda text: {"aggregate": {"by": [], "measures": {"x": f"max({text})"}}},
    "sql": lambda text: {"sql": f"SELECT id, {text} AS x FROM flow"},
}


def fails(transform: Any, step: Mapping[str, Any], **more: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        transform([step], ROWS, **more)
    assert caught.value.code == "expression-failed"
    return caught.value


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("text", FAILING)
def test_no_value_of_a_row_is_told_to_who_may_not_see_it(transform: Any, kind: str, text: str) -> None:
    error = fails(transform, STEPS[kind](text))
    told = " ".join([error.detail, *(one.message for one in error.errors)])
    assert FAILING[text] in told, told
    assert not any(part in told for part in (*SECRET.split(", "), NUMBER, "-32")), told


@pytest.mark.parametrize("kind", STEPS)
def test_who_may_see_rows_is_told_the_value(
    engine: Engine, transform: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "rows_shown", True)
    assert f"Could not convert string '{SECRET}' to INT32" in fails(transform, STEPS[kind]("name::INTEGER")).detail


@pytest.mark.parametrize(
    ("step", "field", "place"),
    [
        ({"derive": {"y": "id", "x": "1 +\n  name::INTEGER"}}, "derive.x", "line 2, column 7"),
        ({"derive": {"x": "{{ parameters.m }} || CAST(name AS INTEGER)"}}, "derive.x", "line 1, column 23"),
        ({"derive": {"x": "(name::INTEGER)::HUGEINT * 10"}}, "derive.x", "line 1, column 6"),
        ({"filter": "id > 0\nAND name::INTEGER > 1"}, "filter", "line 2, column 9"),
        ({"validate": [{"rule": "r", "check": "name::INTEGER > 1"}]}, "validate[0].check", "line 1, column 5"),
        ({"aggregate": {"by": ["id"], "measures": {"x": "sum(name::INTEGER)"}}}, "aggregate.measures.x", "column 9"),
        ({"sql": "SELECT id,\n  name::INTEGER AS x\nFROM flow"}, "sql", "line 2, column 7"),
        ({"sql": "SELECT a.id, b.name::INTEGER AS x\nFROM flow a JOIN flow b USING (id)"}, "sql", "line 1, column 20"),
    ],
)
def test_what_fails_on_a_row_names_step_line_and_column(transform: Any, step: Any, field: str, place: str) -> None:
    error = fails(transform, step, parameters={"m": "x"})
    assert error.errors[0].field == f"steps[0].{field}"
    assert place in error.errors[0].message, error.errors[0].message
