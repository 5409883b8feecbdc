"""Documents: a number is read as it stands there, and what JSON has no type for is written so that it can be read."""

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.connector.documents import loads, plain_text, records
from dataaggregator.connector.records import Shaper, infer_schema
from dataaggregator.connector.typenames import parse_type
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.json_reading import JsonFile

NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=None)
    .filter(lambda one: abs(one.adjusted()) < 300)
    .map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
LONG = ("12345678901234567890123", "0.12345678901234567890", "-9223372036854775809", "1e400", "12345678901234567e3")


@given(NUMBERS)
def test_no_number_is_rounded(text: str) -> None:
    (number,) = loads(f"[{text}]".encode())
    assert Decimal(repr(number) if isinstance(number, float) else number) == Decimal(text)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("number", LONG[:3])
def test_a_number_no_double_holds_makes_its_field_json_or_fits_a_decimal(
    tmp_path: Path, number: str, lines: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"n": {number}}}' if lines else f'[{{"n": {number}}}]')
    file = JsonFile(lambda: path.open("rb"), "a.json", lines=lines)
    for given_, held in ((None, number), ({"n": "decimal(50,20)"}, Decimal(number))):
        schema = infer_schema(file.sample(), given_)
        (batch,) = file.read(Shaper(schema, given=given_ or ()), 10)
        assert batch.rows.to_pylist() == [{"n": held}]


def test_a_long_number_among_doubles_is_rejected_and_not_rounded() -> None:
    rows = [{"n": loads(text.encode())} for text in ("0.5", LONG[1])]
    batch = Shaper(pa.schema({"n": pa.float64()})).batch(rows, ["x:1", "x:2"])
    assert (batch.rows.to_pylist(), [row.position for row in batch.rejected]) == ([{"n": 0.5}], ["x:2"])


def test_what_json_has_no_type_for_is_written_as_text() -> None:
    nan, infinity = float("nan"), float("inf")
    rows = pa.record_batch(
        {
            "n": pa.array([nan, -infinity, None, 0.5]),
            "list": pa.array([[nan], [1.5, None], [], None]),
            "raw": pa.array([b"\0\xff", b"", None, b"a"]),
            "money": pa.array([Decimal("1.10"), None, None, None]),
        }
    )
    written = [json.loads(orjson.dumps(row, default=plain_text)) for row in records(rows)]
    assert [row["n"] for row in written] == ["NaN", "-Infinity", None, 0.5]
    assert [row["list"] for row in written] == [["NaN"], [1.5, None], [], None]
    assert base64.b64decode(written[0]["raw"]) == b"\0\xff"
    assert written[0]["money"] == "1.10"


def test_a_json_field_is_written_as_json() -> None:
    field: Any = parse_type("json")
    column = pa.ExtensionArray.from_storage(field, pa.array(['{"a": [1]}', None]))
    written = [orjson.dumps(row) for row in records(pa.record_batch({"j": column}))]
    assert written == [b'{"j":{"a": [1]}}', b'{"j":null}']


def test_a_moment_no_reader_has_a_type_for_is_refused_by_column() -> None:
    rows = pa.record_batch({"day": pa.array([2_000_000_000], pa.int32()).cast(pa.date32())})
    with pytest.raises(Invalid, match="day"):
        records(rows)
