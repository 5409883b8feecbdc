"""Webhooks, HTTP door: what bodies, answers and queries look like."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from dataaggregator.contracts.base import Sent
from dataaggregator.http import definition
from dataaggregator.http.paging import PageQuery

from .domain import Status, Webhook, WebhookDefinition

DAY_SECONDS = 24 * 3600


class WebhookShown(WebhookDefinition):
    """A saved webhook; `disabled` is one whose receiver failed for days, until it is saved anew."""

    id: UUID
    workspace_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None
    status: Literal["active", "paused", "disabled"]
    failing_since: datetime | None = Field(description="Since when nothing could be delivered.")
    disabled_at: datetime | None
    disabled_reason: str | None


class WebhookMade(WebhookShown):
    """The one answer that shows the first secret."""

    secret: str


class RotateWish(Sent):
    """How the next secret is made."""

    secret: Annotated[str | None, Field(max_length=200, description="whsec_…; one is made without.")] = None
    overlap_seconds: Annotated[
        int, Field(ge=0, le=7 * DAY_SECONDS, description="How long the secret before signs as well.")
    ] = DAY_SECONDS


class SecretMade(BaseModel):
    """Shown once."""

    secret: str
    previous_ends_at: datetime | None


class DeliveryShown(BaseModel):
    """One event on its way to one webhook, and what came of the last try."""

    id: UUID
    event_id: UUID = Field(description="The id of the event, and the webhook-id of every try.")
    type: str
    subject: str
    status: Status
    attempts: int = Field(
        description="Calls begun since it was due, or asked for again; also one that the end of a gateway cut off."
    )
    created_at: datetime
    next_at: datetime | None
    attempted_at: datetime | None
    response_status: int | None
    response: str | None = Field(description="The beginning of the answer.")
    error: str | None
    duration_ms: int | None = Field(description="Of the last call; not known of one under way or cut off.")


class DeliveryQuery(PageQuery):
    status: Status | None = None


def shown(webhook: Webhook) -> WebhookShown:
    return definition.shown(WebhookShown, webhook, **_state(webhook))


def made(webhook: Webhook, secret: str) -> WebhookMade:
    return definition.shown(WebhookMade, webhook, **_state(webhook), secret=secret)


def _state(webhook: Webhook) -> dict[str, object]:
    return {
        "status": webhook.status,
        "failing_since": webhook.failing_since,
        "disabled_at": webhook.disabled_at,
        "disabled_reason": webhook.disabled_reason,
    }
