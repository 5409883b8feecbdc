"""Approved changes of schema: each is made once; what is so in every run stays approved."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.pipeline import PipelineDefinition
from services.scheduler.pipelines.domain import Pipeline, Status

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ENDS = {"connector": "house", "stream": "public.a"}


def change(kind: str, before: str | None, after: str | None, **more: Any) -> DestinationDifference:
    return DestinationDifference.model_validate(
        {"kind": kind, "field": "note", "before": before, "after": after, **ENDS, **more}
    )


def pipeline(*approved: DestinationDifference) -> Pipeline:
    return Pipeline(
        id=UUID(int=1), workspace_id=UUID(int=2), name="a", model=PipelineDefinition, written={},
        version=1, created_at=NOW, updated_at=NOW, created_by=None, status=Status.ACTIVE, status_reason=None,
        active_since=NOW, approved=approved,
    )  # fmt: skip


ADDED, WIDENED = change("added", None, "text"), change("changed", "integer", "bigint")
LACKING = change("removed", "text", None)


@pytest.mark.parametrize(
    ("carried", "left"),
    [
        (ADDED, ()),
        (WIDENED, ()),
        (LACKING, (LACKING,)),
        (change("changed", "text NOT NULL", "text"), (LACKING,)),
    ],
)
def test_a_change_that_is_made_is_spent_and_a_column_that_rows_lack_stays_approved(
    carried: DestinationDifference, left: tuple[DestinationDifference, ...]
) -> None:
    assert pipeline(carried).approved_behind([carried]) == left


def test_what_was_approved_while_the_run_was_at_work_is_for_the_next_one() -> None:
    later = change("added", None, "text", stream="public.b")
    assert pipeline(ADDED, later, WIDENED).approved_behind([ADDED]) == (later, WIDENED)
