"""Webhooks, domain: where events go, when a delivery is tried again, and when a receiver is given up. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Name, Sent, Some
from dataaggregator.contracts.envelope import PUBLIC
from dataaggregator.definition import Saved
from services.gateway.feed.domain import fits

Status = Literal["pending", "delivered", "failed"]

PURPOSE = "webhook"
TOPIC = "deliveries"
"""What is signalled in this process when deliveries were made."""
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 24 * 3600.0
MOST_ATTEMPTS = 11
"""With pauses four times as long each time, a day at most, the last one is made after about three days."""
REST_SECONDS = 60.0
"""So long a receiver that fails is left alone at most before the next delivery is tried."""
GIVEN_UP_AFTER = timedelta(days=3)
GONE = 410


def _url(value: str) -> str:
    try:
        split = urlsplit(value)
        usable = split.scheme in ("http", "https") and split.hostname and not split.username and not split.fragment
        _ = split.port
    except ValueError:
        usable = False
    if not usable or not value.isascii() or any(character.isspace() for character in value):
        raise PydanticCustomError("url", "write an address such as https://example.org/events, without user or #")
    return value


def _type(value: str) -> str:
    if not any(fits(name, value) for name, message in PUBLIC.items() if not message.ephemeral):
        raise PydanticCustomError("type", "no event that is kept has such a name; see /api/asyncapi.json")
    return value


class WebhookDefinition(Sent):
    """Which events go to an address: types whole (`run.failed.v1`) or by their beginning (`run.*`)."""

    name: Name
    url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_url)]
    types: Annotated[Some[Annotated[str, Field(max_length=100), AfterValidator(_type)]], Field(max_length=50)]
    enabled: bool = True


@dataclass(frozen=True)
class Webhook(Saved[WebhookDefinition]):
    """A saved webhook; `disabled_at` is when the platform gave its receiver up."""

    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None

    @property
    def status(self) -> Literal["active", "paused", "disabled"]:
        if self.disabled_at is not None:
            return "disabled"
        return "active" if self.written.get("enabled", True) else "paused"


@dataclass(frozen=True)
class Turn:
    """A receiver that this gateway delivers to for a while, under its lease."""

    lease: UUID
    webhook_id: UUID
    workspace_id: UUID
    name: str


@dataclass(frozen=True)
class Due:
    """One delivery to be tried now, and what it is tried with."""

    id: UUID
    workspace_id: UUID
    event_id: UUID
    url: str
    event: dict[str, Any]
    attempts: int
    """Those before."""
    failures: int
    failing_since: datetime | None
    now: datetime
    sealed_secrets: Sequence[bytes]


@dataclass(frozen=True)
class Attempt:
    """What came of one try; `status` None where no answer came, `error` None where all is well."""

    duration_ms: int
    status: int | None = None
    response: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class After:
    """What follows: the pauses of the delivery (None: it has ended) and of its receiver, and why that is given up."""

    pause_seconds: float | None
    rest_seconds: float = 0.0
    give_up: str | None = None


def after_failure(due: Due, attempt: Attempt, chance: float) -> After:
    """`chance` is one from 0 to 1; it spreads what failed together over half of its pause."""
    spread = 0.75 + chance / 2
    pause = min(FIRST_PAUSE_SECONDS * 4**due.attempts, LONGEST_PAUSE_SECONDS) * spread
    rest = min(2.0**due.failures, REST_SECONDS) * spread
    last = due.attempts + 1 >= MOST_ATTEMPTS
    reason = None
    if attempt.status == GONE:
        reason = "The receiver answered 410: it is gone."
    elif last and due.failing_since is not None and due.now - due.failing_since >= GIVEN_UP_AFTER:
        reason = f"Nothing could be delivered since {due.failing_since:%Y-%m-%d %H:%M} UTC: {attempt.error}"
    return After(None if last else pause, rest, reason)


def aad(webhook: UUID) -> str:
    """What the secrets of a webhook are bound to."""
    return f"{webhook}|secret"
