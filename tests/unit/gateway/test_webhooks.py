"""Webhooks: what may be saved, and when a delivery that failed is tried again, given up, and its receiver with it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from dataaggregator.contracts.fields import field_errors
from dataaggregator.definition import Author
from dataaggregator.errors import Denied
from dataaggregator.ids import new_id
from services.gateway.webhooks.commands import Caller
from services.gateway.webhooks.domain import MOST_ATTEMPTS, Attempt, Due, WebhookDefinition, after_failure

GOOD: dict[str, Any] = {"name": "ops", "url": "https://example.org/hook?x=1", "types": ["run.failed.v1", "pipeline.*"]}
NOW = datetime(2026, 1, 31, tzinfo=UTC)
BROKEN = Attempt(10, status=500, error="The receiver answered 500.")


def due(attempts: int, failures: int = 0, failing_for: timedelta | None = None) -> Due:
    since = None if failing_for is None else NOW - failing_for
    return Due(new_id(), new_id(), new_id(), GOOD["url"], {}, attempts, failures, since, NOW, ())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "https://user@example.org/"}, "url"),
        ({"url": "https://example.org:99999/"}, "url"),
        ({"url": "https:///x"}, "url"),
        ({"url": "https://example.org/#x"}, "url"),
        ({"url": "https://example.org/a b"}, "url"),
        ({"types": []}, "types"),
        ({"types": ["run.failed"]}, "types[0]"),
        ({"types": ["run.*", "run.progressed.v1"]}, "types[1]"),
        ({"types": ["audit.*"]}, "types[0]"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_webhook_names_its_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookDefinition.model_validate(GOOD | changed)
    assert [error.field for error in field_errors(caught.value)] == [field]


def test_a_delivery_is_tried_for_about_three_days_ever_more_rarely() -> None:
    pauses = [after_failure(due(tried), BROKEN, 0.5).pause_seconds for tried in range(MOST_ATTEMPTS)]
    *real, last = pauses
    assert last is None
    waited = [pause for pause in real if pause is not None]
    assert waited == sorted(waited)
    assert waited[0] == 5
    assert timedelta(days=3) < timedelta(seconds=sum(waited)) < timedelta(days=3, hours=12)


def test_what_failed_together_is_not_tried_together() -> None:
    spread = [after_failure(due(3), BROKEN, chance).pause_seconds for chance in (0.0, 0.5, 1.0)]
    assert spread == [240, 320, 400]


def test_a_receiver_that_fails_is_left_alone_for_a_minute_at_most() -> None:
    assert [after_failure(due(0, failures), BROKEN, 0.5).rest_seconds for failures in (0, 1, 5, 500)] == [1, 2, 32, 60]


def test_a_receiver_is_given_up_after_days_without_any_delivery_or_when_it_says_so() -> None:
    last, long, short = MOST_ATTEMPTS - 1, timedelta(days=3), timedelta(days=2)
    assert after_failure(due(last, 9, long), BROKEN, 0.5).give_up
    assert after_failure(due(last, 9, short), BROKEN, 0.5).give_up is None
    assert after_failure(due(0, 9, long), BROKEN, 0.5).give_up is None
    assert after_failure(due(0), Attempt(1, status=410, error="gone"), 0.5).give_up


def test_events_about_people_are_for_administrators_to_send() -> None:
    about_people = WebhookDefinition.model_validate(GOOD | {"types": ["run.*", "login.failed.v1"]})
    somebody = Author(None, "ada@example.org")
    with pytest.raises(Denied):
        Caller(new_id(), somebody, about_people=False).may_hear(about_people)
    Caller(new_id(), somebody, about_people=True).may_hear(about_people)
    Caller(new_id(), somebody, about_people=False).may_hear(WebhookDefinition.model_validate(GOOD))
