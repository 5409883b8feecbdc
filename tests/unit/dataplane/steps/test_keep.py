"""keep: new rows take the place of kept ones by key, whatever comes first; rows of both = kept + duplicates."""

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.dataplane.sandbox.messages import StageCounts
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.dataplane.steps.node import Graph, NodeSpec
from dataaggregator.errors import Permanent
from tests.graphs import Outcome

from .conftest import portions_of

SCHEMA = pa.table({"k": pa.array([], pa.int64()), "v": pa.array([], pa.string())}).schema
Rows = Sequence[tuple[int | None, str]]
ROWS = st.lists(st.tuples(st.integers(0, 20), st.text("abc", max_size=3)), max_size=60)


def keep(
    engine: Engine, new: Rows, kept: Rows, order: Sequence[str] = ("new", "kept"), delete_when: str | None = None
) -> Outcome:
    outcome = Outcome(SCHEMA)
    spec = NodeSpec("x", ("new", "kept"), (), ("x.keep",), keep=("k",), delete_when=delete_when)
    graph = Graph([spec], {"new": SCHEMA, "kept": SCHEMA}, engine, {}, outcome)
    given = {"new": new, "kept": kept}
    for name in order:
        rows = pa.table([list(column) for column in zip(*given[name], strict=True)] or [[], []], schema=SCHEMA)
        for batch in rows.to_batches(max_chunksize=7):
            graph.push(name, batch)
        graph.finish(name)
    outcome.counts = graph.counts()
    return outcome


@settings(deadline=None, max_examples=60)
@given(
    new=ROWS,
    kept=st.dictionaries(st.integers(0, 20), st.text("abc", max_size=3)),
    turned=st.booleans(),
    portion=st.sampled_from([None, 200]),
)
def test_the_last_new_row_of_a_key_stays_else_the_kept_one(
    engine: Engine, new: Rows, kept: dict[int, str], turned: bool, portion: int | None
) -> None:
    with portions_of(portion):
        outcome = keep(engine, new, [*kept.items()], ("kept", "new") if turned else ("new", "kept"))
    assert {row["k"]: row["v"] for row in outcome.values} == kept | dict(new)
    (counts,) = outcome.counts
    assert isinstance(counts, StageCounts)
    assert (counts.kind, counts.accounting) == ("keep", "proven")
    assert counts.read == len(new) + len(kept) == (counts.kept or 0) + (counts.duplicates or 0)
    assert {name: one.read for name, one in counts.inputs.items()} == {"new": len(new), "kept": len(kept)}
    assert counts.written == len(outcome.values) == len(kept | dict(new))


def test_a_key_that_is_null_is_refused(engine: Engine) -> None:
    with pytest.raises(Permanent) as caught:
        keep(engine, [(1, "a"), (None, "b"), (None, "c")], [])
    assert (caught.value.code, "2 rows of new have no value in k" in caught.value.detail) == ("merge-key-null", True)


@settings(deadline=None, max_examples=60)
@given(
    new=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["u", "d", "Delete", ""])), max_size=60),
    kept=st.dictionaries(st.integers(0, 20), st.sampled_from(["u", "i"])),
)
def test_a_key_whose_last_row_says_that_it_is_deleted_has_none(engine: Engine, new: Rows, kept: dict[int, str]) -> None:
    outcome = keep(engine, new, [*kept.items()], delete_when="v")
    last = kept | dict(new)
    left = {key: said for key, said in last.items() if said not in ("d", "Delete")}
    assert {row["k"]: row["v"] for row in outcome.values} == left
    (counts,) = outcome.counts
    assert counts.deleted == len(last) - len(left)
    assert counts.marked == sum(said in ("d", "Delete") for _, said in new)
    assert counts.read == len(new) + len(kept) == (counts.kept or 0) + (counts.duplicates or 0) + (counts.deleted or 0)
    assert counts.written == counts.kept == len(left)
