"""Which pipelines may have several runs at work at once, and where a run finds a lane."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.ids import new_id
from services.scheduler.pipelines.side_by_side import side_by_side
from services.scheduler.runs.domain import Asked, Run

SOURCE = {"connector": "erp", "stream": "public.a"}
APPENDED = {"connector": "erp", "stream": "public.b"}
MERGED = {**APPENDED, "write": "merge", "key": ["id"], "version_field": "changed_at"}
TYPES = {"erp": "postgres", "lake": "files"}


def reasons(**changes: Any) -> list[str]:
    definition = {"name": "a", "sources": {"a": SOURCE}, "destinations": [APPENDED], "concurrency": 2, **changes}
    model = PipelineDefinition.model_validate(definition)
    return [error.message for error in side_by_side(model, TYPES) if error.field == "concurrency"]


@pytest.mark.parametrize("destinations", [[APPENDED], [MERGED], [APPENDED, MERGED]])
def test_what_is_read_whole_and_appended_or_merged_by_version_may_run_side_by_side(destinations: list[Any]) -> None:
    assert reasons(destinations=destinations) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sources": {"a": {**SOURCE, "read": "incremental", "cursor_field": "at"}}}, "incrementally"),
        ({"destinations": [{**APPENDED, "write": "replace"}]}, "replace"),
        ({"destinations": [{**MERGED, "version_field": None}]}, "version_field"),
        ({"destinations": [{**MERGED, "delete_when": "gone"}]}, "deleted"),
        ({"destinations": [{**APPENDED, "connector": "lake"}]}, "type files"),
    ],
)
def test_every_reason_against_runs_side_by_side_is_named(changes: dict[str, Any], word: str) -> None:
    [reason] = reasons(**changes)
    assert word in reason
    assert reasons(**changes, concurrency=1) == []


def test_a_whole_schema_is_replicated_by_one_run_at_a_time() -> None:
    replicate = {"from": {"connector": "erp", "streams": ["*"]}, "to": {"connector": "erp", "schema": "raw"}}
    definition = {"name": "a", "replicate": replicate, "concurrency": 2}
    [error] = side_by_side(PipelineDefinition.model_validate(definition), TYPES)
    assert "replicate" in error.message


@pytest.mark.parametrize(
    ("lane", "taken", "free"),
    [
        (None, (), 1),
        (None, (1,), 2),
        (None, (2,), 1),
        (None, (1, 2), None),
        (None, (1, 7), 2),
        (None, (0,), None),
        (0, (), 0),
        (0, (2,), None),
        (0, (0,), None),
    ],
)
def test_a_run_takes_the_first_lane_that_is_free_and_one_that_must_be_alone_only_an_empty_road(
    lane: int | None, taken: Collection[int], free: int | None
) -> None:
    run = Run(
        new_id(), new_id(), new_id(), "a", 1, Asked("manual", {}), {}, datetime(2026, 1, 1, tzinfo=UTC), lane=lane
    )
    assert run.free_lane(taken, 2) == free
