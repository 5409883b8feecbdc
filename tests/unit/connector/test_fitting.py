"""Fitting: a value either becomes the very same value of the type, or it is refused and said."""

import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.connector.fitting import fit_texts, fit_values
from dataaggregator.connector.records import Shaper, infer_schema
from dataaggregator.connector.typenames import parse_type
from dataaggregator_connectors.files.config import CsvOptions
from dataaggregator_connectors.files.csv_reading import CsvFile, infer_csv
from dataaggregator_connectors.files.json_reading import JsonFile, elements

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)


@given(st.lists(SCALARS, max_size=8), st.sampled_from(["bigint", "double", "text", "boolean", "integer"]))
def test_no_value_is_changed_in_silence(values: list[Any], type_: str) -> None:
    array, reasons = fit_values(values, parse_type(type_))
    for place, (given_, made) in enumerate(zip(values, array.to_pylist(), strict=True)):
        if place in reasons:
            assert made is None
        elif isinstance(given_, str) and type_ != "text":
            assert fit_texts(pa.array([given_]), parse_type(type_))[1] == {}
        else:
            assert made == given_
            assert (made is None) == (given_ is None)


def test_text_for_bytes_is_base64_or_does_not_fit() -> None:
    array, reasons = fit_texts(pa.array(["AP8=", "", None, "A P8=", "AP8"]), pa.binary())
    assert (array.to_pylist(), sorted(reasons)) == ([b"\x00\xff", b"", None, None, None], [3, 4])


@pytest.mark.parametrize(
    ("type_", "items", "made"),
    [
        ("decimal(5,2)[]", ["-999.99", None], "[Decimal('-999.99'), None]"),
        ("double[]", ["NaN", -0.0, "Infinity", "-Infinity", None], "[nan, -0.0, inf, -inf, None]"),
        ("bytes[]", ["AP8=", ""], "[b'\\x00\\xff', b'']"),
        ("uuid[]", ["00000000-0000-0000-0000-000000000000"], "[UUID('00000000-0000-0000-0000-000000000000')]"),
        ("integer[][]", [[1], [], None], "[[1], [], None]"),
        ("integer[]", [], "[]"),
    ],
)
def test_items_of_a_list_fit_by_the_rule_for_values_outside(type_: str, items: list[Any], made: str) -> None:
    wanted = parse_type(type_)
    for array, reasons in (fit_values([items, None], wanted), fit_texts(pa.array([json.dumps(items), None]), wanted)):
        assert (repr(array.to_pylist()), reasons) == (f"[{made}, None]", {})


@pytest.mark.parametrize("items", [[1.5], ["x"], [True], "1", [[1]]])
def test_an_item_that_does_not_fit_takes_its_list_with_it(items: Any) -> None:
    array, reasons = fit_values([[1], items], parse_type("integer[]"))
    assert (array.to_pylist(), sorted(reasons)) == ([[1], None], [1])


def test_the_place_of_each_value_that_does_not_fit_is_said() -> None:
    array, reasons = fit_texts(pa.array(["1", "x", None, "3", "4.5"]), pa.int64())
    assert array.to_pylist() == [1, None, None, 3, None]
    assert sorted(reasons) == [1, 4]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1, None, 2], "int64"), ([1, 2.5], "double"), ([True], "bool"), (["x"], "string"), ([None], "string"),
        ([{"a": 1}], "extension<arrow.json>"), ([1, "x"], "extension<arrow.json>"),
        ([2**53 + 1, 0.5], "extension<arrow.json>"), ([2**53 + 1], "int64"),
    ],
)  # fmt: skip
def test_the_rules_of_inference(values: list[Any], type_: str) -> None:
    assert str(infer_schema([{"a": value} for value in values]).field("a").type) == type_


@pytest.mark.parametrize("others", [[], [[4]]])
def test_rows_with_unknown_fields_are_rejected_with_their_position(others: list[Any]) -> None:
    batch = Shaper(pa.schema({"a": pa.int64()})).batch([{"a": 1}, {"a": 2, "b": 3}, *others], "x:{}".format)
    assert batch.rows.to_pylist() == [{"a": 1}]
    assert [row.position for row in batch.rejected] == ["x:1", "x:2"][: 1 + len(others)]
    assert batch.read == 2 + len(others)


@pytest.mark.parametrize("projected", [True, False])
def test_a_field_that_a_row_lacks_is_null_whatever_else_it_has(projected: bool) -> None:
    shaper = Shaper(pa.schema({"a": pa.int64(), "b": pa.int64()}), projected=projected)
    batch = shaper.batch([{"a": 1, "b": 2}, {"a": 3}, {"a": 4, "other": 5}], str)
    assert batch.rows.to_pylist()[:2] == [{"a": 1, "b": 2}, {"a": 3, "b": None}]
    assert [one.position for one in batch.rejected] == ([] if projected else ["2"])


@given(st.lists(st.integers() | st.text() | st.lists(st.integers()), max_size=10), st.integers(0, 3))
def test_an_array_is_read_element_by_element(values: list[Any], indent: int) -> None:
    assert [one for _, one in elements(io.StringIO(json.dumps(values, indent=indent or None)))] == values


@pytest.mark.parametrize("text", ["[1,", "[1 2]", "{}", "", "[1] 2", '[{"a":', "[1,]"])
def test_an_array_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(elements(io.StringIO(text)))


def csv_file(folder: Path, text: str | bytes) -> CsvFile:
    path = folder / "orders.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return CsvFile(lambda: path.open("rb"), "orders.csv", CsvOptions.model_validate({}))


def test_ragged_lines_and_unfit_values_are_rejected_by_line(tmp_path: Path) -> None:
    file = csv_file(tmp_path, 'id,note\n1,"two\nlines"\n\n2\n3,x,y\nfour,z\n5,\n')
    batches = list(file.read(infer_csv([file], {"id": "bigint"}), 100))
    rejected = sorted((row.position, row.code) for batch in batches for row in batch.rejected)
    assert rejected == [("orders.csv:5", "row-ragged"), ("orders.csv:6", "row-ragged"), ("orders.csv:7", "row-unfit")]
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    assert rows == [{"id": 1, "note": "two\nlines"}, {"id": 5, "note": None}]
    assert sum(batch.read for batch in batches) == 5


def test_bytes_that_are_not_text_reject_their_row_only(tmp_path: Path) -> None:
    file = csv_file(tmp_path, b"id,name\n1,ok\n2,\xff\xfe\n3,fine\n")
    (batch,) = file.read(infer_csv([file], None), 100)
    assert [row["id"] for row in batch.rows.to_pylist()] == [1, 3]
    assert [row.position for row in batch.rejected] == ["orders.csv:3"]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-2", ""], "int64"), (["007", "1"], "string"), (["1.5", "2"], "double"), (["true", "FALSE"], "bool"),
        (["2026-01-01"], "date32[day]"), (["2026-01-01T10:00:00"], "timestamp[us]"),
        (["2026-01-01 10:00:00+02:00"], "timestamp[us, tz=UTC]"), (["2026-02-30"], "string"), (["", ""], "string"),
        (["1.2345678901234567"], "string"), (["9223372036854775808"], "string"), (["nan"], "string"),
    ],
)  # fmt: skip
def test_the_rules_of_csv_inference(tmp_path: Path, values: list[str], type_: str) -> None:
    file = csv_file(tmp_path, "a,b\n" + "".join(f"{value},x\n" for value in values))
    assert str(infer_csv([file], None).field("a").type) == type_


def test_a_broken_line_of_json_is_rejected_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"a": 1}\n{"a": \n\n{"a": 2}\n')
    (batch,) = JsonFile(lambda: path.open("rb"), "a.ndjson", lines=True).read(Shaper(pa.schema({"a": pa.int64()})), 10)
    assert batch.rows.to_pylist() == [{"a": 1}, {"a": 2}]
    assert [(row.position, row.row) for row in batch.rejected] == [("a.ndjson:2", '{"a": ')]


@pytest.mark.parametrize(
    ("sample", "later"),
    [
        ("12", "007"), ("12", "0x10"), ("12", "-0"), ("1.5", "007.5"), ("1.5", "0.12345678901234567891"),
        ("1.5", "1e400"), ("1.5", "nan"), ("true", "1"),
    ],
)  # fmt: skip
def test_behind_the_sample_a_value_keeps_to_the_rule_of_its_column(tmp_path: Path, sample: str, later: str) -> None:
    whole = csv_file(tmp_path, f"id,a\n1,{sample}\n2,{sample}\n")
    schema = infer_csv([whole], None)
    file = csv_file(tmp_path, f"id,a\n1,{sample}\n2,{later}\n3,{sample}\n")
    (batch,) = file.read(schema, 100)
    assert batch.rows.column("id").to_pylist() == [1, 3]
    assert [row.position for row in batch.rejected] == ["orders.csv:3"]
    assert batch.read == 3


def test_a_long_text_of_a_double_is_still_that_double(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "a\n0.1\n")
    schema = infer_csv([file], None)
    (batch,) = csv_file(tmp_path, "a\n0.30000000000000004\n1.50000000000000000000\n").read(schema, 100)
    assert batch.rows.column("a").to_pylist() == [0.30000000000000004, 1.5]


def test_a_text_among_inferred_numbers_is_no_number() -> None:
    rows = [{"a": 1}, {"a": "007"}]
    (rejected,) = Shaper(pa.schema({"a": pa.int64()})).batch(rows, str).rejected
    assert rejected.position == "1"
    wished = Shaper(pa.schema({"a": pa.int64()}), given=["a"]).batch(rows, str)
    assert wished.rows.to_pylist() == [{"a": 1}, {"a": 7}]


UUIDS = st.uuids().flatmap(lambda one: st.sampled_from([str(one), str(one).upper(), one.hex, f"{{{one}}}", one.urn]))
NOT_UUIDS = st.sampled_from(["", "x", f"{UUID(int=7)}\n", f" {UUID(int=7)}", str(UUID(int=7))[:-1], "g" * 32, "1" * 33])


@given(st.lists(st.none() | st.uuids().map(str) | UUIDS | NOT_UUIDS, max_size=12), st.integers(0, 3))
def test_a_uuid_is_what_python_reads_whatever_its_form(texts: list[str | None], from_: int) -> None:
    def read(text: str | None) -> UUID | None:
        try:
            return None if text is None else UUID(text)
        except ValueError:
            return None

    array, reasons = fit_texts(pa.array(texts, pa.string())[from_:], pa.uuid())
    array.validate(full=True)
    wanted = [read(text) for text in texts[from_:]]
    assert array.to_pylist() == wanted
    refused = [text is not None and one is None for text, one in zip(texts[from_:], wanted, strict=True)]
    assert sorted(reasons) == [place for place, is_refused in enumerate(refused) if is_refused]


@pytest.mark.parametrize("text", ["12:00:00+02:00", "12:00:00.1234567", "12:00:00Z"])
def test_a_time_that_would_lose_something_does_not_fit(text: str) -> None:
    assert fit_texts(pa.array([text]), pa.time64("us"))[1].keys() == {0}


def test_a_number_beyond_a_double_does_not_fit_as_infinity() -> None:
    array, reasons = fit_texts(pa.array(["1e400", "inf", "-Infinity", "1e308"]), pa.float64())
    assert array.to_pylist() == [None, float("inf"), float("-inf"), 1e308]
    assert list(reasons) == [0]


@pytest.mark.parametrize("text", ["a\n1\n\n3\n", "\n\na\n1\n\n3", 'a\n1\n\n3\n""\n'])
def test_an_empty_line_of_a_single_column_is_a_row_without_a_value(tmp_path: Path, text: str) -> None:
    file = csv_file(tmp_path, text)
    (batch,) = file.read(pa.schema({"a": pa.string()}), 100, ["a"])
    assert batch.rows.column("a").to_pylist()[:3] == ["1", None, "3"]
    assert batch.read == len([*text.strip().split("\n")]) - 1


def test_lines_of_a_single_column_are_numbered_with_the_empty_ones(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "a\n1\n\nx\n")
    (batch,) = file.read(pa.schema({"a": pa.int64()}), 100, ["a"])
    assert [row.position for row in batch.rejected] == ["orders.csv:4"]
