"""Keys that stand twice are found where a parser that sees every pair finds them, and nowhere else."""

import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator_connectors.postgres import doubled_keys

KEYS = ("a", "b", "a1", "a2", "é", "", ":", "{", '"', "\\", "a b", "1")
ALIKE = '{{"n": {0}, "of": {{"n": {0}, "tags": ["a", "b{0}", {{"n": null}}]}}}}'


def _spelled(key: str) -> st.SearchStrategy[str]:
    """As it is, or with its first character by its number."""
    plain = json.dumps(key, ensure_ascii=False)
    return st.sampled_from([plain, f'"\\u{ord(key[0]):04x}{json.dumps(key[1:])[1:]}' if key else plain])


def _put(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays and objects of these, an object's keys chosen freely."""
    space = st.sampled_from(["", " ", "\n", "\t "])
    pair = st.tuples(st.sampled_from(KEYS).flatmap(_spelled), space, values).map(lambda p: f"{p[0]}{p[1]}:{p[1]}{p[2]}")
    objects = st.lists(pair, max_size=4).map(lambda pairs: "{" + ", ".join(pairs) + "}")
    return objects | st.lists(values, max_size=3).map(lambda items: "[" + ",".join(items) + "]")


SCALARS = st.sampled_from(["1", "-12.5e3", "true", "null"]) | st.sampled_from(
    ["", "a", "x1", '":"', '{"a":1,"a":2}', "\\", '\\"', ", \n", "}"]
).map(json.dumps)
DOCUMENTS = st.recursive(SCALARS, _put, max_leaves=8)


def _stands_twice(text: str) -> bool:
    found = False

    def see(pairs: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len(dict(pairs)) < len(pairs)

    json.loads(text, object_pairs_hook=see)
    return found


@given(st.lists(st.none() | DOCUMENTS, max_size=3), st.integers(0, 40))
def test_a_key_that_stands_twice_is_found_among_any_others(drawn: list[str | None], alike: int) -> None:
    texts = [*map(ALIKE.format, range(alike)), *drawn]

    found = doubled_keys.key_twice(pa.array(texts, pa.string()))

    assert found == any(_stands_twice(text) for text in drawn if text is not None)


def test_the_texts_of_a_part_are_those_that_are_looked_at() -> None:
    texts = pa.array(['{"a": 1, "a": 2}', *map(ALIKE.format, range(20)), '{"b": 1, "b": 2}'])

    assert [doubled_keys.key_twice(texts.slice(*part)) for part in ((0,), (1, 20), (1,))] == [True, False, True]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2', '{"a": 1}, "a": 1}', '"a": 1, "a": 2', '{"a": 1, "a": 2}}'])
def test_what_is_no_json_is_left_to_the_server(text: str) -> None:
    assert not doubled_keys.key_twice(pa.array([text]))


@pytest.mark.parametrize("written", [ALIKE.format, '{{"at": "{0:x}", "name": "{0:x} of many"}}'.format])
def test_documents_that_are_alike_are_not_read_one_by_one(
    written: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(doubled_keys, "loads", read.append)

    assert not doubled_keys.key_twice(pa.array([written(n * 999_983) for n in range(1_000)]))
    assert not read
