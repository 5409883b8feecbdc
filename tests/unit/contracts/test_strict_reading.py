"""Definitions as the HTTP door reads them: from JSON, strictly, every kind of step."""

import json
from typing import Any

import pytest

from dataaggregator.contracts.pipeline import PipelineDefinition

STEPS: list[dict[str, Any]] = [
    {"select": ["a"]},
    {"drop": ["a"]},
    {"rename": {"a": "b"}},
    {"cast": {"a": "integer", "b": {"type": "integer", "on_error": "null"}}},
    {"derive": {"a": "1"}},
    {"filter": "a > 0"},
    {"validate": [{"rule": "r", "check": "a > 0"}, {"rule": "s", "check": {"not_null": ["a", "b"]}}]},
    {"validate": [{"rule": "r", "check": {"in": {"field": "a", "values": [1, "x"]}}, "on_fail": "warn"}]},
    {"dedupe": {"key": ["a"], "keep": "last", "order_by": ["b desc", "c"]}},
    {"mask": {"a": "hash", "b": "redact", "c": "partial"}},
    {"flatten": {"field": "a"}},
    {"flatten": {"field": "a", "prefix": ""}},
    {"explode": {"field": "a"}},
    {"join": {"with": "b", "on": ["a"]}},
    {"aggregate": {"by": ["a"], "measures": {"n": "count(*)"}}},
    {"sql": "select 1"},
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: next(iter(step)))
def test_an_inline_step_is_read_strictly(step: dict[str, Any]) -> None:
    definition = {
        "name": "p",
        "sources": {"a": {"connector": "c", "stream": "s", "primary_key": ["id"]}},
        "transformations": ["saved", {"name": "t", "inputs": ["a"], "steps": [step]}],
        "destinations": [{"connector": "c", "stream": "d", "write": "merge", "key": ["id"]}],
        "triggers": [{"cron": "0 3 * * *"}, {"every": "10m"}],
    }
    read = PipelineDefinition.model_validate_json(json.dumps(definition), strict=True)
    assert PipelineDefinition.model_validate(read.model_dump(mode="json")) == read
