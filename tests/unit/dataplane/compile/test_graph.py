"""The graph of a definition, and every wrong field by its path."""

from typing import Any

import pytest

from dataaggregator.contracts.parameters import Parameter
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.compile.graph import compile_pipeline, compile_transformation
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.errors import Invalid

FILTER = {"filter": "x > 1"}
SOURCE = {"connector": "c", "stream": "s"}
ASKED = {name: value for name, value in SOURCE.items() if name != "stream"}
TO = {"connector": "w", "stream": "out"}


def _pipeline(**parts: Any) -> PipelineDefinition:
    return PipelineDefinition.model_validate({"name": "p", "sources": {"a": SOURCE}, "destinations": [TO], **parts})


def _wrong(definition: PipelineDefinition) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        compile_pipeline(definition)
    return {error.field: error.code for error in caught.value.errors}


def test_without_inputs_each_takes_the_one_before() -> None:
    plan = compile_pipeline(
        _pipeline(transformations=[{"name": "t", "steps": [FILTER]}, {"name": "u", "steps": [FILTER]}])
    )
    assert [(node.name, node.inputs, node.path) for node in plan.transforms] == [
        ("t", ("a",), "transformations[0]"), ("u", ("t",), "transformations[1]"),
    ]  # fmt: skip
    assert plan.destinations[0].input == "u"
    assert (plan.sandbox_inputs, plan.sandbox_outputs) == (("a",), ("u",))


def test_a_pipeline_without_transformations_goes_straight_through() -> None:
    plan = compile_pipeline(_pipeline())
    assert (plan.transforms, plan.destinations[0].input) == ((), "a")


def test_transformations_come_in_the_order_in_which_rows_reach_them() -> None:
    late = {"name": "late", "inputs": ["early"], "steps": [FILTER]}
    early = {"name": "early", "inputs": ["a"], "steps": [{"drop": ["x"]}]}
    plan = compile_pipeline(_pipeline(transformations=[late, early], destinations=[{**TO, "input": "late"}]))
    assert [(node.name, node.road) for node in plan.transforms] == [("early", "passthrough"), ("late", "sandbox")]


def test_saved_transformations_are_used_by_name() -> None:
    saved = {"clean": TransformationDefinition.model_validate({"name": "clean", "steps": [FILTER]})}
    assert compile_pipeline(_pipeline(transformations=["clean"]), saved).transforms[0].inputs == ("a",)
    assert _wrong(_pipeline(transformations=["clean"])) == {"transformations[0]": "unknown-name"}


@pytest.mark.parametrize(
    ("parts", "field", "code"),
    [
        ({"sources": {"a": SOURCE, "b": SOURCE}, "transformations": [{"name": "t", "steps": [FILTER]}]},
         "transformations[0].inputs", "missing-field"),
        ({"sources": {"a": SOURCE, "b": SOURCE}}, "destinations[0].input", "missing-field"),
        ({"transformations": [{"name": "t", "inputs": ["x"], "steps": [FILTER]}]},
         "transformations[0].inputs[0]", "unknown-name"),
        ({"destinations": [{**TO, "input": "x"}]}, "destinations[0].input", "unknown-name"),
        ({"transformations": [{"name": "a", "steps": [FILTER]}]}, "transformations[0].name", "twice"),
        ({"transformations": [{"name": "t", "inputs": ["u"], "steps": [FILTER]},
                              {"name": "u", "inputs": ["t"], "steps": [FILTER]}]}, "transformations[0].inputs", "cycle"),  # noqa: E501 (a table)
        ({"sources": {"a": SOURCE, "b": SOURCE}, "destinations": [{**TO, "input": "a"}]}, "sources.b", "unused"),
        ({"transformations": [{"name": "t", "steps": [FILTER]}], "destinations": [{**TO, "input": "a"}]},
         "transformations[0]", "unused"),
        ({"sources": {"a": SOURCE, "b": SOURCE}, "transformations": [{"name": "t", "inputs": ["a", "b"],
          "steps": [FILTER]}]}, "transformations[0].inputs[1]", "unused"),
        ({"transformations": [{"name": "t", "steps": [{"join": {"with": "x", "on": ["id"]}}]}]},
         "transformations[0].steps[0].join.with", "unknown-name"),
        ({"transformations": [{"name": "t", "steps": [FILTER, {"filter": "sum(x) > 1"}]}]},
         "transformations[0].steps[1].filter", "expression"),
        ({"transformations": [{"name": "t", "steps": [{"derive": {"y": "{{ parameters.z }}"}}]}]},
         "transformations[0].steps[0].derive.y", "unknown-name"),
        ({"transformations": [{"name": "t", "steps": [{"cast": {"y": "strng"}}]}]},
         "transformations[0].steps[0].cast.y", "type"),
        ({"transformations": [{"name": "t", "steps": [{"sql": "select * from b"}]}]},
         "transformations[0].steps[0].sql", "expression"),
        ({"transformations": [{"name": "t", "steps": [{"dedupe": {"key": ["x", "y", "x"]}}]}]},
         "transformations[0].steps[0].dedupe.key", "twice"),
        ({"transformations": [{"name": "t", "steps": [{"dedupe": {"key": ["x"], "order_by": ["y", "y desc"]}}]}]},
         "transformations[0].steps[0].dedupe.order_by", "twice"),
        ({"transformations": [{"name": "t", "steps": [{"name": "s", **FILTER}, {"name": "s", **FILTER}]}]},
         "transformations[0].steps[1].name", "twice"),
        ({"destinations": [TO, {**TO, "write": "replace"}]}, "destinations[1].stream", "twice"),
        ({"sources": {"a": {**SOURCE, "stream": "{{parameters.z}}.csv"}}}, "sources.a.stream", "unknown-name"),
        ({"sources": {"a": ASKED | {"query": "SELECT {{ parameters.z }}"}}}, "sources.a.query", "unknown-name"),
        ({"sources": {"a": ASKED | {"query": "SELECT '{{ parameters.x }}'"}}, "parameters": {"x": {}}},
         "sources.a.query", "expression"),
        ({"destinations": [{**TO, "stream": "t_{{ parameters.z }}"}]}, "destinations[0].stream", "unknown-name"),
    ],
)  # fmt: skip
def test_each_wrong_field_is_named(parts: Any, field: str, code: str) -> None:
    found = _wrong(_pipeline(**parts))
    assert found.get(field) == code, found


def test_all_that_is_wrong_is_told_at_once() -> None:
    steps = [{"filter": "sum(x)"}, {"derive": {"y": "now()"}}, {"cast": {"z": "strng"}}]
    assert len(_wrong(_pipeline(transformations=[{"name": "t", "steps": steps}]))) == 3


@pytest.mark.parametrize(
    "step",
    [
        {"aggregate": {"by": ["x"], "measures": {"n": "count(*)"}}},
        {"dedupe": {"key": ["x"]}},
        {"sql": "select * from t"},
    ],
)
def test_a_set_wise_step_over_an_incremental_source_is_refused(step: Any) -> None:
    source = {**SOURCE, "read": "incremental", "cursor_field": "at"}
    transformations = [{"name": "t", "steps": [FILTER]}, {"name": "u", "steps": [FILTER, step]}]
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(sources={"a": source}, transformations=transformations))
    assert caught.value.code == "incremental-set-step"
    kind = next(iter(step))
    assert [error.field for error in caught.value.errors] == [f"transformations[1].steps[1].{kind}"]


def test_row_wise_steps_over_an_incremental_source_pass() -> None:
    source = {**SOURCE, "read": "incremental", "cursor_field": "at"}
    compile_pipeline(_pipeline(sources={"a": source}, transformations=[{"name": "t", "steps": [FILTER]}]))


SINCE = {**SOURCE, "read": "incremental", "cursor_field": "at"}
KEPT = {**SINCE, "primary_key": ["x"], "keep": "full"}
CLEAN = [{"name": "t", "steps": [FILTER]}]


@pytest.mark.parametrize("transformations", [[], CLEAN])
def test_new_rows_alone_never_replace_a_table(transformations: Any) -> None:
    to = [{**TO, "write": "merge", "key": ["id"]}, {**TO, "stream": "all", "write": "replace"}]
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(sources={"a": SINCE}, transformations=transformations, destinations=to))
    assert caught.value.code == "incremental-replace"
    assert [error.field for error in caught.value.errors] == ["destinations[1].write"]


def test_rows_that_are_read_again_for_their_lateness_are_merged_or_refused() -> None:
    source = {**SINCE, "lateness": "2h"}
    compile_pipeline(_pipeline(sources={"a": source}, destinations=[{**TO, "write": "merge", "key": ["id"]}]))
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(sources={"a": source}, transformations=CLEAN))
    assert (caught.value.code, caught.value.errors[0].field) == ("lateness-append", "destinations[0].write")


@pytest.mark.parametrize("write", [{"write": "replace"}, {"write": "merge", "key": ["x"]}])
def test_a_kept_source_is_whole_for_set_wise_steps_and_may_replace_a_table(write: Any) -> None:
    transformations = [*CLEAN, {"name": "u", "steps": [{"aggregate": {"by": ["x"], "measures": {"n": "count(*)"}}}]}]
    compile_pipeline(_pipeline(sources={"a": KEPT}, transformations=transformations, destinations=[{**TO, **write}]))


@pytest.mark.parametrize("transformations", [[], CLEAN])
def test_a_kept_source_is_never_appended(transformations: Any) -> None:
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(sources={"a": KEPT}, transformations=transformations))
    assert (caught.value.code, caught.value.errors[0].field) == ("keep-append", "destinations[0].write")


def test_what_a_kept_source_deletes_is_not_merged_where_it_would_stay() -> None:
    source = {**KEPT, "delete_when": "gone"}
    compile_pipeline(_pipeline(sources={"a": source}, destinations=[{**TO, "write": "replace"}]))
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(sources={"a": source}, destinations=[{**TO, "write": "merge", "key": ["x"]}]))
    assert (caught.value.code, caught.value.errors[0].field) == ("keep-delete-merge", "destinations[0].write")


def test_what_one_source_keeps_makes_the_new_rows_of_another_no_whole() -> None:
    join = {"name": "t", "inputs": ["a", "b"], "steps": [{"join": {"with": "b", "on": ["x"]}}]}
    with pytest.raises(Invalid) as caught:
        compile_pipeline(
            _pipeline(
                sources={"a": KEPT, "b": SINCE}, transformations=[join], destinations=[{**TO, "write": "replace"}]
            )
        )
    assert {error.code for error in caught.value.errors} == {"incremental-set-step", "incremental-replace"}


CHUNKED = {**TO, "chunk_rows": 1000}
UNIQUE = {"validate": [{"rule": "once", "check": {"unique": ["x"]}}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": {"a": SOURCE}}, "a has to be read: incremental"),
        ({"sources": {"a": KEPT}, "destinations": [{**CHUNKED, "write": "merge", "key": ["x"]}]}, "keep: full of a"),
        ({"destinations": [CHUNKED, {**TO, "stream": "other"}]}, "one destination"),
        ({"destinations": [{**TO, "stream": "other"}, CHUNKED]}, "one destination"),
        ({"transformations": [{"name": "t", "steps": [FILTER, UNIQUE]}]}, "only see those of one chunk"),
    ],
)
def test_what_cannot_be_loaded_in_chunks_is_refused_with_the_reason(changes: Any, said: str) -> None:
    given = {"sources": {"a": SINCE}, "destinations": [CHUNKED]} | changes
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(**given))
    assert caught.value.code == "chunk-rows-impossible"
    assert said in caught.value.detail


def test_rows_of_several_sources_are_not_loaded_in_chunks() -> None:
    join = {"name": "t", "inputs": ["a", "b"], "steps": [FILTER, {"join": {"with": "b", "on": ["x"]}}]}
    with pytest.raises(Invalid) as caught:
        compile_pipeline(_pipeline(sources={"a": SINCE, "b": SOURCE}, transformations=[join], destinations=[CHUNKED]))
    assert "chunk-rows-impossible" in {error.code for error in caught.value.errors}


def test_an_incremental_source_with_steps_by_row_is_loaded_in_chunks() -> None:
    compile_pipeline(_pipeline(sources={"a": SINCE}, transformations=CLEAN, destinations=[CHUNKED]))


def test_two_kinds_of_wrong_are_a_wrong_definition() -> None:
    step = {"name": "t", "steps": [{"dedupe": {"key": ["x"]}}]}
    wrong = _pipeline(sources={"a": SINCE}, transformations=[step], destinations=[{**TO, "write": "replace"}])
    with pytest.raises(Invalid) as caught:
        compile_pipeline(wrong)
    assert caught.value.code == "definition-invalid"
    assert {error.code for error in caught.value.errors} == {"incremental-set-step", "incremental-replace"}


def test_a_transformation_by_itself_takes_one_input() -> None:
    node = compile_transformation(TransformationDefinition.model_validate({"name": "t", "steps": [FILTER]}))
    assert (node.inputs, node.stage(0)) == (("input",), "t[0].filter")
    wrong = TransformationDefinition.model_validate({"name": "t", "steps": [{"filter": "max(x) > 1"}]})
    with pytest.raises(Invalid) as caught:
        compile_transformation(wrong)
    assert caught.value.errors[0].field == "steps[0].filter"


def test_parameters_get_their_types_and_every_wrong_one_is_named() -> None:
    declared = {"n": Parameter(type="integer", default=1), "d": Parameter(type="date")}
    values = parameter_values(declared, {"d": "2026-01-31"})
    assert (values["n"], values["d"].isoformat()) == (1, "2026-01-31")
    with pytest.raises(Invalid) as caught:
        parameter_values(declared, {"n": "x", "z": 1})
    assert [error.field for error in caught.value.errors] == ["parameters.z", "parameters.n", "parameters.d"]
