"""Contracts: the envelope of every event, a CloudEvent 1.0, and the table of all messages."""

import builtins
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from pydantic import Field, ValidationError

from dataaggregator.contracts import connector, identity, pipeline, platform, run
from dataaggregator.contracts.base import Message, Time, Told
from dataaggregator.errors import Invalid

PLATFORM_WORKSPACE = UUID(int=0)
"""The workspace of events that belong to none, such as those about users."""

M = TypeVar("M", bound=Message)

Attribute = Annotated[str, Field(max_length=500, pattern="^[^\0]*$")]
"""Text of an envelope. A stranger may write anything there; what no index of PostgreSQL takes is no event."""

MESSAGES: dict[str, type[Message]] = {
    message.event_type: message
    for message in (
        run.RunQueued,
        run.RunStarted,
        run.RunProgressed,
        run.RunAttemptFailed,
        run.RunCancelRequested,
        run.RunSucceeded,
        run.RunFailed,
        run.RunCancelled,
        run.RunTimedOut,
        run.RunSkipped,
        pipeline.PipelineCreated,
        pipeline.PipelineUpdated,
        pipeline.PipelineDeleted,
        pipeline.PipelinePaused,
        pipeline.PipelineResumed,
        pipeline.PipelineBlocked,
        pipeline.PipelineLate,
        pipeline.PipelineRecovered,
        pipeline.PipelineEmptied,
        connector.ConnectorCreated,
        connector.ConnectorUpdated,
        connector.ConnectorDeleted,
        connector.ConnectorTested,
        connector.SchemaChanged,
        identity.UserCreated,
        identity.UserUpdated,
        identity.LoginFailed,
        identity.IdentityRevoked,
        identity.AuditEntry,
        platform.BusResendRequested,
    )
}

PUBLIC = {name: message for name, message in MESSAGES.items() if message.channel == "public"}
"""What anybody may subscribe to."""


class Event(Told):
    """One event; `sequence` counts per (source, subject), 0 for ephemeral ones. `data` is the message as JSON."""

    id: UUID
    type: Attribute
    source: Attribute
    subject: Attribute
    sequence: int = Field(ge=0, lt=2**63)
    time: Time
    workspace_id: UUID
    traceparent: Attribute | None = None
    data: dict[str, Any]

    def read(self, message: builtins.type[M]) -> M:
        """The data as this message; `event-unreadable` if it is none."""
        try:
            return message.model_validate(self.data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise Invalid("event-unreadable", f"{self.type} {self.id}: {place}: {first['msg']}") from error

    def cloudevent(self) -> dict[str, Any]:
        """The event in the JSON format of CloudEvents, as SSE and webhooks carry it."""
        event = {
            "specversion": "1.0",
            "id": str(self.id),
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
            "sequence": self.sequence,
            "time": rfc3339(self.time),
            "workspaceid": str(self.workspace_id),
            "datacontenttype": "application/json",
            "data": self.data,
        }
        if self.traceparent is not None:
            event["traceparent"] = self.traceparent
        return event

    @classmethod
    def from_cloudevent(cls, event: dict[str, Any]) -> "Event":
        """The opposite of `cloudevent`; `event-unreadable` if an attribute is missing or wrong."""
        try:
            return cls.model_validate({**event, "workspace_id": event.get("workspaceid")})
        except ValidationError as error:
            raise Invalid("event-unreadable", f"not an event of this platform: {error.error_count()} faults") from error


def rfc3339(time: datetime) -> str:
    """A UTC time as the platform writes it: 2026-01-31T12:00:00.123456Z."""
    return time.isoformat().replace("+00:00", "Z")


def to_json(message: Message) -> bytes:
    """A message as it travels: snake_case, RFC 3339 times, what is not set left out."""
    return orjson.dumps(message.model_dump(mode="json", exclude_none=True))
