"""Two definitions held against each other: steps beside each other, schemas, and rows by key or whole."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.contracts.dry_run import RowDifference
from dataaggregator.dataplane.dry_run.comparing import Line, aligned, compare, fields


def lines(*written: str) -> list[Line]:
    """Each "label:text", or a step named by its text."""
    parts = [one.partition(":") for one in written]
    return [Line(f"{at}.{label}", "filter", ("t", label), text or label) for at, (label, _, text) in enumerate(parts)]


def changes(current: list[Line], proposed: list[Line]) -> list[tuple[str, str, str]]:
    return [
        (change, one.stage if one else "", other.stage if other else "")
        for change, one, other in aligned(current, proposed)
    ]


def test_a_step_put_between_others_moves_none_of_them() -> None:
    found = changes(lines("a", "b", "c"), lines("a", "new", "b", "c"))
    assert found == [("same", "0.a", "0.a"), ("added", "", "1.new"), ("same", "1.b", "2.b"), ("same", "2.c", "3.c")]


def test_a_step_under_its_old_name_has_changed_and_others_came_and_went() -> None:
    found = changes(lines("a", "gone", "b:1", "c"), lines("a", "b:2", "new", "c"))
    assert found == [
        ("same", "0.a", "0.a"),
        ("removed", "1.gone", ""),
        ("changed", "2.b", "1.b"),
        ("added", "", "2.new"),
        ("same", "3.c", "3.c"),
    ]


@given(*[st.lists(st.sampled_from(["a:1", "a:2", "b:1", "c:1"]), max_size=8)] * 2)
def test_every_line_of_both_stands_once_and_in_its_order(current: list[str], proposed: list[str]) -> None:
    one, other = lines(*current), lines(*proposed)
    pairs = list(aligned(one, other))
    assert [line for _, line, _ in pairs if line is not None] == one
    assert [line for _, _, line in pairs if line is not None] == other
    assert all((before is None) == (change == "added") for change, before, _ in pairs)
    assert all((after is None) == (change == "removed") for change, _, after in pairs)


def test_fields_that_came_went_or_changed_their_type_are_named() -> None:
    before: dict[str, pa.DataType] = {"a": pa.int64(), "b": pa.string(), "c": pa.string()}
    after: dict[str, pa.DataType] = {"b": pa.int32(), "c": pa.string(), "d": pa.bool_()}
    found = [(one.kind, one.field, one.before, one.after) for one in fields(pa.schema(before), pa.schema(after))]
    assert found == [
        ("removed", "a", "int64", None),
        ("changed", "b", "string", "int32"),
        ("added", "d", None, "bool"),
    ]
    assert list(fields(None, pa.schema(after))) == []


def differing(current: list[Any], proposed: list[Any], *key: str, **more: Any) -> RowDifference:
    found = compare(pa.Table.from_pylist(current), pa.Table.from_pylist(proposed), key, more.get("version"), show=True)
    assert found is not None
    return found


def test_rows_of_a_key_are_the_same_differ_vanish_or_appear() -> None:
    current = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 3, "v": "c"}]
    proposed = [{"id": 4, "v": "d"}, {"id": 2, "v": "B"}, {"id": 1, "v": "a"}]
    found = differing(current, proposed, "id")
    assert (found.same, found.differ, found.vanish, found.appear, found.by_field) == (1, 1, 1, 1, {"v": 1})
    assert found.examples is not None
    assert [(one.key["id"], one.current, one.proposed) for one in found.examples] == [
        (2, {"id": 2, "v": "b"}, {"id": 2, "v": "B"}),
        (3, {"id": 3, "v": "c"}, None),
        (4, None, {"id": 4, "v": "d"}),
    ]


def test_fields_that_only_one_has_make_no_row_differ() -> None:
    found = differing([{"id": 1, "old": 1}], [{"id": 1, "new": 2}], "id")
    assert (found.same, found.differ) == (1, 0)


@pytest.mark.parametrize(("version", "kept"), [(None, "later"), ("at", "newer")])
def test_among_rows_of_a_key_the_one_that_a_merge_keeps_counts(version: str | None, kept: str) -> None:
    doubled = [{"id": 1, "at": 2, "v": "newer"}, {"id": 1, "at": 1, "v": "later"}, {"id": 2, "at": None, "v": "x"}]
    single = [{"id": 1, "at": 9, "v": kept}, {"id": 2, "at": 9, "v": "x"}]
    assert differing(doubled, single, "id", version=version).by_field == {"at": 2}


def test_without_a_key_rows_are_counted_as_often_as_they_come() -> None:
    current, proposed = [{"v": 1}, {"v": 1}, {"v": 2}], [{"v": 1}, {"v": 3}, {"v": 3}]
    found = differing(current, proposed)
    assert (found.compared_by, found.same, found.differ, found.vanish, found.appear) == (("v",), 1, 0, 2, 2)


def test_a_key_that_only_one_has_is_none() -> None:
    found = differing([{"id": 1, "v": 1}], [{"v": 1}], "id")
    assert (found.compared_by, found.same) == (("v",), 1)


def test_rows_without_a_common_field_are_not_compared() -> None:
    assert compare(pa.table({"a": [1]}), pa.table({"b": [1]}), (), None, show=True) is None


def test_examples_are_not_too_much_to_look_at() -> None:
    many = [{"id": n, "v": "x" * 10_000} for n in range(100)]
    found = differing(many, [{"id": -1, "v": ""}], "id")
    assert (found.vanish, found.examples is not None and len(found.examples) < 10) == (100, True)
