"""What is left of a pipeline when rejected rows are its source, and in which pipelines they would not come right."""

from typing import Any

import pytest

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.dataplane.compile.replay import BEHIND_ALL, Entry, entry_of, renumbered, replayed, replayed_at
from dataaggregator.errors import Conflict

ID = "0198c0de-0000-7000-8000-000000000001"
CHECK = {"validate": [{"rule": "r", "check": "x > 0"}]}
NAMED = {"name": "named", **CHECK}


def use(**more: Any) -> dict[str, Any]:
    return {"connector_id": ID, "connector_name": "c", "connector_type": "postgres", "stream": "s", **more}


def pipeline(*steps: dict[str, Any], behind: tuple[dict[str, Any], ...] = (), **more: Any) -> ResolvedPipeline:
    """Source a → clean → behind (if it has steps) → out; source b is joined where a step says so."""
    joins = any(step.get("join") for step in (*steps, *behind))
    transformations = [{"name": "clean", "inputs": ["a", "b"] if joins and not behind else ["a"], "steps": list(steps)}]
    if behind:
        transformations += [{"name": "last", "inputs": ["clean", "b"] if joins else ["clean"], "steps": list(behind)}]
    definition = {
        "name": "p",
        "sources": {"a": use(read="incremental", cursor_field="at"), **({"b": use()} if joins else {})},
        "transformations": transformations,
        "destinations": [use(input=transformations[-1]["name"])],
        "on_rejected": {"threshold": "1%"},
    }
    return ResolvedPipeline.model_validate({**definition, **more})


def code(*arguments: Any) -> str:
    with pytest.raises(Conflict) as raised:
        replayed(*arguments)
    return raised.value.code


@pytest.mark.parametrize(
    ("steps", "stage", "first"),
    [
        ([{"derive": {"y": "x"}}, CHECK], "clean[1].validate", 0),
        ([NAMED], "clean.named", 0),
        ([{"mask": {"x": "hash"}}, CHECK], "clean[1].validate", 1),
        ([CHECK, {"explode": {"field": "l"}}, {"drop": ["y"]}, CHECK], "clean[3].validate", 2),
        ([CHECK, {"explode": {"field": "l"}}, CHECK], "clean[0].validate", 0),
        ([{"dedupe": {"key": ["x"]}}, CHECK], "clean[1].validate", 1),
    ],
)
def test_rows_come_in_again_where_they_are_what_was_kept_of_them(
    steps: list[dict[str, Any]], stage: str, first: int
) -> None:
    """As they came into their transformation, or left the last step that made new rows of them."""
    assert entry_of(pipeline(*steps), {stage}) == Entry("clean", first)


def test_rows_that_come_in_at_several_places_are_replayed_one_after_the_other() -> None:
    definition = pipeline(CHECK, {"mask": {"x": "hash"}}, CHECK, NAMED)
    assert entry_of(definition, {"clean[2].validate", "clean.named"}) == Entry("clean", 2)
    for stages in ({"clean[0].validate", "clean.named"}, {"clean[0].validate", "gone"}):
        with pytest.raises(Conflict):
            entry_of(definition, stages)


def test_the_rows_are_the_source_and_the_steps_keep_their_names() -> None:
    definition = pipeline({"mask": {"x": "hash"}}, CHECK, behind=({"derive": {"z": "x"}},))
    made = replayed(definition, definition, Entry("clean", 1), {0})
    assert list(made.definition.sources) == [made.source]
    assert made.definition.on_rejected is None
    again = ResolvedPipeline.model_validate(made.definition.model_dump(mode="json"))  # it travels to a run process
    plan = renumbered(compile_pipeline(again), made.entry)
    assert [(node.name, node.inputs, node.stages) for node in plan.transforms] == [
        ("clean", (made.source,), (("clean[1].validate", "validate"),)),
        ("last", ("clean",), (("last[0].derive", "derive"),)),
    ]


def test_what_is_joined_is_read_whole() -> None:
    join = {"join": {"with": "b", "on": ["x"], "how": "left"}}
    definition = pipeline(CHECK, behind=(join,))
    sources = {**definition.sources, "b": definition.sources["a"].model_copy(update={"keep": "full"})}
    definition = definition.model_copy(update={"sources": sources})
    made = replayed(definition, definition, Entry("clean", 0), {0})
    joined = made.definition.sources["b"]
    assert (joined.read, joined.keep, joined.cursor_field) == ("full_refresh", None, None)
    assert set(made.definition.sources) == {made.source, "b"}


def test_a_join_before_the_rows_came_in_is_not_made_again() -> None:
    definition = pipeline({"join": {"with": "b", "on": ["x"]}}, CHECK)
    made = replayed(definition, definition, Entry("clean", 1), {0})
    assert list(made.definition.sources) == [made.source]


@pytest.mark.parametrize(
    "step",
    [
        {"aggregate": {"by": ["x"], "measures": {"n": "count(*)"}}},
        {"dedupe": {"key": ["x"]}},
        {"sql": "SELECT * FROM clean"},
        {"join": {"with": "b", "on": ["x"], "how": "full"}},
        {"join": {"with": "b", "on": ["x"], "expect": "one_to_one"}},
        {"validate": [{"rule": "u", "check": {"unique": "x"}}]},
    ],
)
def test_a_step_behind_that_needs_all_rows_is_refused_wherever_it_stands(step: dict[str, Any]) -> None:
    for definition in (pipeline(CHECK, behind=(step,)), pipeline(CHECK, {"derive": {"y": "x"}}, step)):
        assert code(definition, definition, Entry("clean", 0), {0}) == "replay-set-step"


def test_rows_that_others_are_joined_with_are_refused() -> None:
    definition = pipeline(CHECK, behind=({"join": {"with": "b", "on": ["x"]}},))
    cleaned, last = definition.transformations
    turned = definition.model_copy(
        update={
            "transformations": (
                cleaned,
                last.model_copy(
                    update={"inputs": ("b", "clean"), "steps": pipeline(
                        CHECK, {"join": {"with": "clean", "on": ["x"]}}
                    ).transformations[0].steps[1:]}
                ),
            )
        }
    )  # fmt: skip
    assert code(turned, turned, Entry("clean", 0), {0}) == "replay-set-step"


def test_into_a_table_that_is_replaced_is_refused() -> None:
    definition = pipeline(CHECK, destinations=[use(input="clean", write="replace")])
    assert code(definition, definition, Entry("clean", 0), {0}) == "replay-replace"


def test_only_destinations_that_are_meant_and_behind_the_step_are_left() -> None:
    """What is refused for another one does not matter."""
    outs = [use(input="clean"), use(input="a", stream="raw"), use(input="clean", stream="t", write="replace")]
    definition = pipeline(CHECK, destinations=outs)
    made = replayed(definition, definition, Entry("clean", 0), {0, 1})
    assert [one.stream for one in made.definition.destinations] == ["s"]
    assert code(definition, definition, Entry("clean", 0), {1}) == "replay-nowhere"


def test_what_stands_before_the_rows_must_be_what_it_was() -> None:
    before = pipeline({"mask": {"x": "hash"}}, CHECK)
    corrected = pipeline({"mask": {"x": "hash"}}, {"derive": {"y": "1"}})
    made = replayed(before, corrected, Entry("clean", 1), {0})
    assert made.definition.transformations[0].steps == corrected.transformations[0].steps[1:]
    for changed in (pipeline({"mask": {"x": "redact"}}, CHECK), pipeline({"mask": {"x": "hash"}})):
        assert code(before, changed, Entry("clean", 1), {0}) == "replay-step-changed"
    gone = before.model_copy(update={"transformations": ()})
    assert code(before, gone, Entry("clean", 1), {0}) == "replay-step-changed"


def test_what_was_loaded_in_chunks_is_replayed_in_one_load() -> None:
    definition = pipeline(CHECK, destinations=[use(input="clean", chunk_rows=1000)])
    compile_pipeline(definition)
    compile_pipeline(replayed(definition, definition, Entry("clean", 0), {0}).definition)


def test_what_a_destination_rejected_comes_in_there_and_nowhere_else() -> None:
    two = [use(input="clean"), use(input="clean", stream="other", write="merge", key=["id"], chunk_rows=4)]
    definition = pipeline(CHECK, destinations=two)
    made = replayed_at(definition, definition, (1, 1))
    assert (made.source, made.entry) == ("rejected-rows", BEHIND_ALL)
    left = made.definition
    assert (set(left.sources), left.transformations, left.on_rejected) == ({"rejected-rows"}, (), None)
    assert [(one.stream, one.input) for one in left.destinations] == [("other", "rejected-rows")]
    assert left.destinations[0].chunk_rows is None, "rejected rows have no cursor that chunks could go by"
    assert compile_pipeline(left).transforms == ()


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (pipeline({"filter": "x > 1"}), "replay-step-changed"),
        (pipeline(CHECK, destinations=[use(input="a")]), "replay-step-changed"),
        (pipeline(CHECK, destinations=[use(input="clean", write="replace")]), "replay-replace"),
    ],
)
def test_what_a_destination_rejected_is_refused_where_it_would_not_come_right(
    after: ResolvedPipeline, code: str
) -> None:
    with pytest.raises(Conflict) as raised:
        replayed_at(pipeline(CHECK), after, (0, 0))
    assert raised.value.code == code
