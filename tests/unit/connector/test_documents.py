"""Documents: a number is read as it stands there, and what JSON has no type for is written so that it can be read."""

import base64
import json
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.connector import documents
from dataaggregator.connector.documents import DoubledKeyError, as_written, loads, plain_text, records
from dataaggregator.connector.records import Broken, Shaper, infer_schema
from dataaggregator.connector.typenames import parse_type
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.json_reading import JsonFile, elements

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


@given(st.lists(NUMBERS | st.text('0123456789.eE+-", :', max_size=24).map(json.dumps), max_size=4))
def test_no_number_is_rounded_among_others_and_texts(drawn: list[str]) -> None:
    found = loads(f"[{', '.join(drawn)}]".encode())

    expected = [json.loads(one, parse_float=Decimal, parse_int=Decimal) for one in drawn]
    assert [Decimal(repr(one)) if isinstance(one, float) else one for one in found] == expected


@pytest.mark.parametrize(
    "number", ["123456789012345678e3", "9" * 5_000, f"0.{'3' * 5_000}", str(2**63), str(-(2**63) - 1)]
)
def test_a_long_number_is_kept_to_its_last_digit(number: str) -> None:
    assert Decimal(loads(f"[{number}]".encode())[0]) == Decimal(loads(number.encode())) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["0.010309278350515464", "1.5000000000000000", "-1234567890123456789", '"99999999999999999999"']
)
def test_what_the_quick_parser_keeps_is_left_to_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "DECODER", None)

    assert loads(f'{{"n": {text}}}'.encode()) == json.loads(f'{{"n": {text}}}')


def test_digits_within_a_text_are_no_number_that_could_be_wrong() -> None:
    said = "version 1.2.3.4.5.6.7.8.9.10"
    assert loads(f'{{"said": "{said}", "n": 0.1}}'.encode()) == {"said": said, "n": 0.1}


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
    batch = Shaper(pa.schema({"n": pa.float64()})).batch(rows, ["x:1", "x:2"].__getitem__)
    assert (batch.rows.to_pylist(), [row.position for row in batch.rejected]) == ([{"n": 0.5}], ["x:2"])


class Pairs:
    """An object as it may stand in a document, with keys that stand there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


TRICKY = st.sampled_from(["a", "b", "", ":", '":', "\\", '\\"', 'x" : ', '{"a":1,"a":2}', "é", "2024-05-01T12:00:00Z"])
SOME = st.recursive(
    TRICKY | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(TRICKY, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def text_of(value: Any, space: str) -> str:
    if isinstance(value, Pairs):
        return (
            "{" + ",".join(f"{json.dumps(key)}{space}:{space}{text_of(one, space)}" for key, one in value.pairs) + "}"
        )
    if isinstance(value, list):
        return "[" + f"{space},".join(text_of(one, space) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def says_twice(value: Any) -> bool:
    if isinstance(value, Pairs):
        return len({key for key, _ in value.pairs}) < len(value.pairs) or any(says_twice(one) for _, one in value.pairs)
    return isinstance(value, list) and any(map(says_twice, value))


@given(SOME, st.sampled_from(["", " ", "\n", "\t", "\r\n "]))
def test_a_document_is_refused_if_and_only_if_an_object_has_a_key_twice(value: Any, space: str) -> None:
    text = text_of(value, space)
    if not says_twice(value):
        assert loads(text.encode()) == json.loads(text)
        return
    with pytest.raises(DoubledKeyError, match="stands twice") as caught:
        loads(text.encode())
    assert caught.value.document == json.loads(text)
    pairs = json.loads(as_written(caught.value.document), object_pairs_hook=list)
    assert pairs == json.loads(text, object_pairs_hook=list)


@pytest.mark.parametrize(
    "text", [r'{"a" :1,"a":2}', r'{"a":1,"a":"\u0022:"}', r'{"a":":","a":1}', r'{"a":{"":1},"a":2}']
)
def test_a_key_twice_is_found_however_it_is_written(text: str) -> None:
    with pytest.raises(DoubledKeyError):
        loads(text.encode())


@pytest.mark.parametrize("lines", [True, False])
def test_a_record_with_a_key_twice_is_set_aside_as_it_was_with_its_place(tmp_path: Path, lines: bool) -> None:
    path, doubled = tmp_path / "a.json", '{"a": 2, "b": {"c": 1, "c": 2}}'
    rows = ['{"a": 1}', doubled, '{"a": 3}']
    path.write_text("\n".join(rows) if lines else "[" + ",".join(rows) + "]")
    file = JsonFile(lambda: path.open("rb"), "a.json", lines=lines)
    assert list(file.sample()) == [{"a": 1}, {"a": 3}]
    (batch,) = file.read(Shaper(pa.schema({"a": pa.int64()})), 10)
    assert (batch.rows.to_pylist(), batch.read) == ([{"a": 1}, {"a": 3}], 3)
    (rejected,) = batch.rejected
    assert (rejected.position, rejected.code, rejected.row) == ("a.json:2", "row-malformed", doubled)
    assert rejected.reason == "the key 'c' stands twice in one object"


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


@pytest.mark.parametrize("number", ["1", "12345678901234567890123"])
@pytest.mark.parametrize("text", [r"\ud800", r"a\uDFFFb", r"\ude00\ud83d"])
def test_half_a_character_is_refused_whatever_stands_beside_it(number: str, text: str) -> None:
    for broken in (f'{{"a": "{text}", "n": {number}}}', f'{{"{text}": {number}}}'):
        with pytest.raises(ValueError, match="surrogate"):
            loads(broken.encode())
        (found,) = [element for _, element in elements(StringIO(f"[{broken}]"))]
        assert isinstance(found, Broken)
        assert found.text == broken
    assert loads(f'{{"a": "\\ud83d\\ude00 \\u00dc", "n": {number}}}'.encode())["a"] == "\U0001f600 \u00dc"


@pytest.mark.parametrize("inside", ["", "12345678901234567890123", '{"a": 1, "a": 2}'])
def test_what_is_nested_too_deeply_is_refused(inside: str) -> None:
    deep = "[" * 100_000 + inside + "]" * 100_000
    with pytest.raises(ValueError, match=r"deeply|depth"):
        loads(deep.encode())
    with pytest.raises(ValueError, match="deeply"):
        list(elements(StringIO(f"[{deep}]")))
