"""Arrivals, domain: what a look at a stream's files says, held against what is known of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from dataaggregator.contracts.files import FileState


@dataclass(frozen=True)
class Look:
    """A look that is under way, the `number`th of its trigger: what an earlier one says counts no more."""

    schedule_id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    number: int


@dataclass(frozen=True)
class Arrival:
    """A file in the version seen last, and since when; `told` once it has made a slot due.

    One that is gone is still known: the same version there again is not new.
    """

    file: FileState
    seen_at: datetime
    told: bool = False
    gone_at: datetime | None = None


@dataclass(frozen=True)
class Compared:
    """What has changed of what is known, and the files that have arrived."""

    changed: Sequence[Arrival]
    arrived: Sequence[FileState]


def compare(
    known: Mapping[str, Arrival] | None, listed: Sequence[FileState], now: datetime, settle: timedelta
) -> Compared:
    """`known` None: the first look, after which everything is known."""
    before = known or {}
    after = {file.name: _seen(before.get(file.name), file, now, told=known is None) for file in listed}
    arrived = [one.file for one in after.values() if not one.told and now - one.seen_at >= settle]
    after |= {file.name: replace(after[file.name], told=True) for file in arrived}
    after |= {
        name: replace(one, gone_at=now) for name, one in before.items() if name not in after and one.gone_at is None
    }
    return Compared([one for name, one in after.items() if one != before.get(name)], arrived)


def _seen(before: Arrival | None, file: FileState, now: datetime, *, told: bool) -> Arrival:
    if before is None or (before.file.version, before.file.size) != (file.version, file.size):
        return Arrival(file, now, told)
    return replace(before, gone_at=None)
