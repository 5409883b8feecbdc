"""What users send: taken when right, refused with every wrong field named by its path when not."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dataaggregator.contracts.fields import field_errors
from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.contracts.policies import OnRejected, RetryPolicy
from dataaggregator.contracts.steps import AggregateStep, FilterStep, JoinStep, ValidateStep
from dataaggregator.contracts.transformation import TransformationDefinition

KINDS = (
    "select, drop, rename, cast, derive, filter, validate, dedupe, mask, flatten, explode, join, aggregate, sql, python"
)


def pipeline(**changes: Any) -> dict[str, Any]:
    """The example of the public contract, as far as it is built."""
    return {
        "name": "delay-by-airline",
        "sources": {
            "flights": {"connector": "files", "stream": "flights.csv"},
            "airlines": {"connector": "reference-api", "stream": "airlines"},
            "bookings": {
                "connector": "erp",
                "stream": "public.bookings",
                "read": "incremental",
                "cursor_field": "updated_at",
                "primary_key": ["id"],
            },
        },
        "transformations": [
            "clean-flights",
            {"name": "totals", "inputs": ["clean-flights", "airlines"], "steps": [{"sql": "select ..."}]},
        ],
        "destinations": [
            {
                "connector": "warehouse",
                "input": "totals",
                "stream": "marts.delay_by_airline",
                "write": "merge",
                "key": ["airline"],
                "version_field": "updated_at",
                "schema_policy": "evolve",
            }
        ],
        "triggers": [
            {"cron": "15 * * * *", "timezone": "Europe/Zurich", "catch_up": "latest"},
            {"every": "10m"},
        ],
        "parameters": {"region": {"type": "string", "default": "EU"}},
        "retry": {"attempts": 5, "backoff": "exponential", "initial": "10s", "maximum": "10m"},
        "timeout": "2h",
        "concurrency": 1,
        "on_rejected": {"threshold": "1%", "then": "fail"},
        **changes,
    }


REPLICATE: dict[str, Any] = {
    "from": {"connector": "erp", "streams": ["public.*", "!public.tmp_*"], "read": "incremental"},
    "to": {"connector": "warehouse", "schema": "raw", "write": "merge"},
}


def _from(**changes: Any) -> dict[str, Any]:
    return {**REPLICATE, "from": {**REPLICATE["from"], **changes}}


def _to(**changes: Any) -> dict[str, Any]:
    return {**REPLICATE, "to": {**REPLICATE["to"], **changes}}


def steps(*written: Any) -> dict[str, Any]:
    return {"name": "t", "steps": list(written)}


def errors(model: type[BaseModel], value: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    found = field_errors(caught.value)
    assert len({error.field for error in found}) == len(found), "one error a field"
    return {error.field: error.message for error in found}


def test_the_example_of_the_public_contract_is_taken() -> None:
    definition = PipelineDefinition.model_validate(pipeline())
    assert definition.timeout is not None
    assert definition.timeout.seconds == 7200
    assert definition.overlap == "queue"


def test_a_definition_survives_the_round_trip_as_it_was_written() -> None:
    definition = PipelineDefinition.model_validate(pipeline())
    assert definition.model_dump(mode="json", exclude_unset=True) == pipeline()
    assert PipelineDefinition.model_validate_json(definition.model_dump_json()) == definition


def test_a_whole_schema_is_a_pipeline_of_its_own_kind() -> None:
    given = {"name": "erp-to-warehouse", "replicate": REPLICATE}
    definition = PipelineDefinition.model_validate(given)
    assert definition.model_dump(mode="json", exclude_unset=True) == given
    assert PipelineDefinition.model_validate_json(definition.model_dump_json()) == definition
    single = {**REPLICATE, "from": {**REPLICATE["from"], "cursor_field": "at"}}
    (cursor,) = PipelineDefinition.model_validate({"name": "a", "replicate": single}).replicate.from_.cursor_field  # type: ignore[union-attr]
    assert cursor == "at"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"sources": {"a": {"connector": "c", "stream": "s"}}}, "sources", "has none"),
        ({"destinations": [{"connector": "c", "stream": "s"}]}, "destinations", "has none"),
        ({"transformations": ["t"]}, "transformations", "has none"),
        ({"parameters": {"p": {"type": "string"}}}, "parameters", "has none"),
        ({"replicate": {**REPLICATE, "nope": 1}}, "replicate.nope", "unknown field"),
        ({"replicate": {"to": REPLICATE["to"]}}, "replicate.from", "required"),
        ({"replicate": {**REPLICATE, "parallelism": 33}}, "replicate.parallelism", "less than or equal to 32"),
        ({"replicate": {**REPLICATE, "on_new": "keep"}}, "replicate.on_new", "'load', 'ignore' or 'fail'"),
        ({"replicate": _from(streams=[])}, "replicate.from.streams", "at least 1"),
        ({"replicate": _from(streams=["!a"])}, "replicate.from.streams", "leaves streams out"),
        ({"replicate": _from(streams=["a", "!"])}, "replicate.from.streams", "before the pattern"),
        ({"replicate": _from(cursor_field=[])}, "replicate.from.cursor_field", "at least 1"),
        ({"replicate": _from(read="full_refresh", lateness="1h")}, "replicate.from", "read: incremental"),
        ({"replicate": _to(write="append", delete_when="gone")}, "replicate.to", "write: merge"),
        ({"replicate": _to(write="replace", version_field="at")}, "replicate.to", "write: merge"),
        ({"replicate": _to(delete_when="at", version_field="at")}, "replicate.to", "beside version_field"),
        ({"replicate": _to(write="append", replace_strategy="swap")}, "replicate.to", "nothing is replaced"),
    ],
)
def test_a_wrong_field_beside_or_within_replicate_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    found = errors(PipelineDefinition, {"name": "a", "replicate": REPLICATE, **changes})
    assert list(found) == [field]
    assert message in found[field]


def test_a_definition_cannot_be_changed() -> None:
    definition = PipelineDefinition.model_validate(pipeline())
    with pytest.raises(ValidationError):
        definition.name = "other"  # type: ignore[misc]


def test_steps_are_read_as_their_kinds() -> None:
    definition = TransformationDefinition.model_validate(
        steps(
            {"filter": "a > 1"},
            {"validate": [{"rule": "r", "check": "a > 1"}, {"rule": "s", "check": {"not_null": "a"}}]},
            {"join": {"with": "other", "on": ["a"]}},
            {"name": "sums", "aggregate": {"measures": {"n": "count(*)"}}},
        )
    )
    first, rules, join, aggregate = definition.steps
    assert isinstance(first, FilterStep)
    assert isinstance(rules, ValidateStep)
    assert [(rule.check.sql, rule.check.not_null) for rule in rules.rules] == [("a > 1", None), (None, ("a",))]
    assert isinstance(join, JoinStep)
    assert (join.join.with_, join.join.how, join.join.expect, join.set_wise) == ("other", "inner", "any", True)
    assert isinstance(aggregate, AggregateStep)
    assert (aggregate.kind, aggregate.name, aggregate.set_wise) == ("aggregate", "sums", True)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"dedup": {}}, f"unknown step kind 'dedup'; the kinds are: {KINDS}"),
        ({"{x}": 1}, f"unknown step kind '{{x}}'; the kinds are: {KINDS}"),
        ({"filter": "a", "select": ["b"]}, "a step has exactly one kind, this one has 2: filter, select"),
        ({"name": "x"}, f"a step needs exactly one kind: {KINDS}"),
        ({}, f"a step needs exactly one kind: {KINDS}"),
        ("filter", f"write a step as an object with one of: {KINDS}"),
        (None, f"write a step as an object with one of: {KINDS}"),
    ],
)
def test_a_step_that_is_none_says_what_steps_there_are(step: Any, message: str) -> None:
    assert errors(TransformationDefinition, steps(step)) == {"steps[0]": message}


@pytest.mark.parametrize(
    ("step", "field", "message"),
    [
        ({"filter": "a", "extra": 1}, "steps[0].extra", "unknown field"),
        ({"filter": 1}, "steps[0].filter", "should be a valid string"),
        ({"select": []}, "steps[0].select", "at least 1 needed, 0 given"),
        ({"cast": {"a": {}}}, "steps[0].cast.a.type", "this field is required"),
        (
            {"cast": {"a": {"type": "int", "on_error": "skip"}}},
            "steps[0].cast.a.on_error",
            "'reject', 'null' or 'fail'",
        ),
        ({"validate": [{"rule": "r"}]}, "steps[0].validate[0].check", "this field is required"),
        ({"validate": [{"rule": "r", "check": {}}]}, "steps[0].validate[0].check", "exactly one of"),
        ({"validate": [{"rule": "r", "check": {"range": {"field": "a"}}}]}, "steps[0].validate[0].check.range", "min"),
        ({"validate": [{"rule": "r", "check": "a"}] * 2}, "steps[0]", "twice here: r"),
        ({"dedupe": {}}, "steps[0].dedupe.key", "this field is required"),
        ({"dedupe": {"key": []}}, "steps[0].dedupe.key", "at least 1 needed"),
        ({"dedupe": {"key": ["a"], "keep": "newest"}}, "steps[0].dedupe.keep", "'first' or 'last'"),
        ({"mask": {}}, "steps[0].mask", "at least 1"),
        ({"mask": {"a": "hide"}}, "steps[0].mask.a", "'hash', 'redact' or 'partial'"),
        ({"flatten": {"prefix": "a"}}, "steps[0].flatten.field", "this field is required"),
        ({"explode": {"field": "a", "outer": True}}, "steps[0].explode.outer", "unknown field"),
        ({"join": {"on": ["a"]}}, "steps[0].join.with", "this field is required"),
        ({"join": {"with": "b", "on": []}}, "steps[0].join.on", "at least 1 needed"),
        ({"aggregate": {"by": ["a"]}}, "steps[0].aggregate.measures", "this field is required"),
        ({"derive": {"{a}": 1}}, "steps[0].derive.{a}", "valid string"),
    ],
)
def test_a_wrong_step_names_its_field(step: Any, field: str, message: str) -> None:
    found = errors(TransformationDefinition, steps(step))
    assert list(found) == [field]
    assert message in found[field]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"nope": 1}, "nope", "unknown field"),
        ({"sources": {}}, "sources", "at least 1"),
        ({"destinations": []}, "destinations", "at least 1"),
        ({"sources": {"a": {"connector": "c"}}}, "sources.a", "a stream or a query, exactly one"),
        ({"sources": {"a": {"connector": "c", "stream": "s", "query": "q"}}}, "sources.a", "exactly one"),
        ({"sources": {"a": {"connector": "c", "stream": "s", "keeps": "full"}}}, "sources.a.keeps", "unknown field"),
        ({"sources": {"a": {"connector": "c", "stream": "s", "keep": "full"}}}, "sources.a", "keep belongs to read"),
        (
            {"sources": {"a": {"connector": "c", "stream": "s", "read": "incremental", "keep": "full"}}},
            "sources.a",
            "needs a primary_key",
        ),
        ({"destinations": [{"connector": "c", "stream": "s", "write": "merge"}]}, "destinations[0]", "needs a key"),
        (
            {"destinations": [{"connector": "c", "stream": "s", "version_field": "v"}]},
            "destinations[0]",
            "write: merge",
        ),
        ({"destinations": [{"connector": "c", "stream": "s", "delete_when": "d"}]}, "destinations[0]", "write: merge"),
        (
            {"destinations": [{"connector": "c", "stream": "s", "write": "merge", "key": ["k"], "delete_when": "k"}]},
            "destinations[0]",
            "beside key",
        ),
        (
            {"sources": {"a": {"connector": "c", "stream": "s", "delete_when": "d"}}},
            "sources.a",
            "at the destination",
        ),
        (
            {"destinations": [{"connector": "c", "stream": "s", "write": "replace", "chunk_rows": 5}]},
            "destinations[0]",
            "a replace is one transaction",
        ),
        (
            {"destinations": [{"connector": "c", "stream": "s", "replace_strategy": "swap"}]},
            "destinations[0]",
            "belongs to write: replace",
        ),
        ({"destinations": [{"connector": "c", "stream": "s", "write": "upsert"}]}, "destinations[0].write", "'merge'"),
        (
            {"triggers": [{"sensor": True}]},
            "triggers[0]",
            "unknown trigger kind 'sensor'; the kinds are: cron, every",
        ),
        ({"triggers": [{"cron": "* *"}]}, "triggers[0].cron", "not a cron line"),
        ({"triggers": [{"cron": "* * * * *", "timezone": "Mars"}]}, "triggers[0].timezone", "unknown time zone"),
        ({"triggers": [{"every": 600}]}, "triggers[0].every", "such as 30s"),
        ({"triggers": [{"every": "0s"}]}, "triggers[0].every", "above zero"),
        ({"transformations": [7]}, "transformations[0]", "the name of a saved transformation, or one inline"),
        ({"transformations": [{"name": "t", "steps": []}]}, "transformations[0].steps", "at least 1 needed"),
        ({"retry": {"attempts": 0}}, "retry.attempts", "greater than or equal to 1"),
        ({"retry": {"initial": "1h", "maximum": "1m"}}, "retry", "initial must not be longer"),
        ({"timeout": "soon"}, "timeout", "such as 30s"),
        ({"concurrency": 0}, "concurrency", "greater than or equal to 1"),
        ({"overlap": "cancel"}, "overlap", "'queue', 'skip' or 'cancel_running'"),
        ({"on_rejected": {"threshold": "101%"}}, "on_rejected.threshold", "a share such as 1%"),
        ({"on_rejected": {"threshold": True}}, "on_rejected.threshold", "a share such as 1%"),
        ({"on_rejected": {"threshold": "1%", "then": "shout"}}, "on_rejected.then", "'fail' or 'warn'"),
        ({"parameters": {"p": {"type": "integer", "default": "1"}}}, "parameters.p", "not of type integer"),
        ({"name": "a b"}, "name", "letters, digits"),
        ({"name": "0198c0de-0000-7000-8000-000000000001"}, "name", "must not look like an id"),
    ],
)
def test_a_wrong_pipeline_names_its_field(changes: dict[str, Any], field: str, message: str) -> None:
    found = errors(PipelineDefinition, pipeline(**changes))
    assert list(found) == [field]
    assert message in found[field]


def test_all_wrong_fields_are_named_at_once() -> None:
    wrong = pipeline(nope=1, name="", transformations=[{"name": "t", "steps": [{"dedup": 1}, {"filter": 1}]}])
    assert list(errors(PipelineDefinition, wrong)) == [
        "name",
        "transformations[0].steps[0]",
        "transformations[0].steps[1].filter",
        "nope",
    ]


def test_a_prefix_stands_before_the_path() -> None:
    with pytest.raises(ValidationError) as caught:
        TransformationDefinition.model_validate(steps({"filter": 1}))
    assert field_errors(caught.value, "definition")[0].field == "definition.steps[0].filter"


def test_what_a_run_carries_is_refused_when_it_is_not_understood_wholly() -> None:
    resolved = {
        "name": "p",
        "sources": {
            "a": {"stream": "s", "connector_id": "0198c0de-0000-7000-8000-000000000001", "connector_name": "c"}
            | {"connector_type": "files", "later": True}
        },
        "destinations": [],
    }
    assert errors(ResolvedPipeline, resolved) == {
        "sources.a.later": "unknown field",
        "destinations": "at least 1 needed, 0 given",
    }


def test_a_json_schema_offers_both_ways_of_writing_a_cast_and_a_check() -> None:
    schema = TransformationDefinition.model_json_schema()["$defs"]
    casts = schema["CastStep"]["properties"]["cast"]["additionalProperties"]
    assert {"type": "string"} in casts["anyOf"]
    assert {"type": "string"} in schema["Rule"]["properties"]["check"]["anyOf"]


@pytest.mark.parametrize(
    ("threshold", "rejected", "read", "exceeded"),
    [
        ("1%", 1, 100, False),
        ("1%", 2, 100, True),
        ("0%", 1, 1_000_000, True),
        ("0%", 0, 0, False),
        (5, 5, 10, False),
        ("5", 6, 10, True),
        ("0", 1, 10, True),
    ],
)
def test_a_threshold_is_exceeded_by_more_than_it_allows(
    threshold: str | int, rejected: int, read: int, exceeded: bool
) -> None:
    policy = OnRejected.model_validate({"threshold": threshold})
    assert policy.exceeded(rejected, read) is exceeded


def test_pauses_double_up_to_the_maximum() -> None:
    policy = RetryPolicy.model_validate({"initial": "10s", "maximum": "1m"})
    assert [policy.pause_seconds(attempt) for attempt in (1, 2, 3, 4, 200)] == [10, 20, 40, 60, 60]
    assert RetryPolicy.model_validate({"backoff": "fixed"}).pause_seconds(9) == 10
