"""Feed domain: what an entry is, who may hear it, which ones end a run. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from dataaggregator.contracts.envelope import PUBLIC
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.http.sse import ServerSentEvent

TOPIC = "feed"
"""What is signalled in this process when an entry was appended."""

TERMINAL = frozenset({"run.succeeded.v1", "run.failed.v1", "run.cancelled.v1", "run.timed_out.v1", "run.skipped.v1"})
TERMINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled", "timed_out", "skipped"})
# Who logs in, or fails to, is for administrators to know.
ABOUT_PEOPLE = ("user.", "login.")


@dataclass(frozen=True)
class Entry:
    """One event at its position; `position` None is an ephemeral one, which nobody can resume after. `size_bytes` is
    what it comes to as text, of one that is stored."""

    position: int | None
    workspace_id: UUID
    type: str
    subject: str
    event: dict[str, Any]
    size_bytes: int = 0

    def sent(self) -> ServerSentEvent:
        told = orjson.dumps(self.event).decode()
        return ServerSentEvent(told, id=None if self.position is None else str(self.position))


@dataclass(frozen=True)
class Wanted:
    """Which entries one listener gets."""

    workspace_id: UUID
    types: tuple[str, ...] = ()
    subject: str | None = None
    about_people: bool = False

    def fits(self, entry: Entry) -> bool:
        return (
            entry.workspace_id == self.workspace_id
            and (self.subject is None or entry.subject == self.subject)
            and (not self.types or any(fits(entry.type, pattern) for pattern in self.types))
            and (self.about_people or not entry.type.startswith(ABOUT_PEOPLE))
        )


def fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def check_types(patterns: Sequence[str]) -> tuple[str, ...]:
    """Each names a public event, whole (`run.failed.v1`) or by its beginning (`run.*`)."""
    wrong = [pattern for pattern in patterns if not any(fits(name, pattern) for name in PUBLIC)]
    if wrong:
        told = "is no public event; see /api/asyncapi.json"
        errors = [FieldError("type", f"{pattern} {told}", "type") for pattern in wrong]
        raise Invalid("query-invalid", f"There is no event {wrong[0]}.", errors=errors)
    return tuple(patterns)


def position_of(last_event_id: str | None) -> int | None:
    """The position in Last-Event-ID; -1 for one that we never gave."""
    if last_event_id is None or not last_event_id.strip():
        return None
    text = last_event_id.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


def resumable(position: int, floor: int, newest: int) -> bool:
    """Is everything after `position` still there? Not after the retention, not in another feed's numbers."""
    return floor <= position <= newest


def reset(position: int) -> ServerSentEvent:
    """Said once: what happened in between is not known here; read the present state, then go on from `position`."""
    told = {"reason": "The events after your Last-Event-ID are no longer kept.", "position": position}
    return ServerSentEvent(orjson.dumps(told).decode(), event="reset", id=str(position))
