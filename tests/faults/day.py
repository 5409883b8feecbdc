"""A day of many schedules, and what an oracle of its own says of it: which slots there are, and how each may end."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from asyncpg import Record

from tests.faults.fires_oracle import Tick, fires_in, walk

MINUTES = ("0", "30", "*/20", "7,37", "59")
HOURS = ("*", "*/2", "*/3", "0", "2", "9", "1,3,13")
INTERVALS: Mapping[str, timedelta] = {
    "20m": timedelta(minutes=20),
    "45m": timedelta(minutes=45),
    "1h": timedelta(hours=1),
    "1h30m": timedelta(minutes=90),
    "6h": timedelta(hours=6),
}
JITTERS = (None, None, None, "1m", "10m")
LONGEST_DELAY = timedelta(minutes=10)
MISSED = timedelta(seconds=60)
LATEST = timedelta(hours=6)
"""How late the last slot of a day may be decided on."""


@dataclass(frozen=True)
class Day:
    """From its beginning, when the pipelines were saved, to its end."""

    start: datetime
    end: datetime

    def moment(self, chance: random.Random) -> datetime:
        return self.start + (self.end - self.start) * chance.random()

    @cache  # noqa: B019 (there are few of them)
    def ticks(self, zone: str) -> list[Tick]:
        return walk(ZoneInfo(zone), self.start, self.end + LATEST)


@dataclass
class Rest:
    """A pause of a pipeline, with the moments between which it began and between which it ended."""

    began: tuple[datetime, datetime]
    ended: tuple[datetime, datetime] | None = None


@dataclass
class Life:
    """A trigger from the moment it was saved to the one it was taken out, and why what was due then did not fire."""

    trigger: dict[str, Any]
    schedule_id: UUID
    anchor: datetime
    delay: timedelta
    ended: datetime | None = None
    reason: str | None = None

    def has(self, slot: Record) -> bool:
        """A trigger that was there before has the same schedule."""
        mine: bool = slot["schedule_id"] == self.schedule_id and self.anchor < slot["slot_at"]
        return mine and (self.ended is None or slot["slot_at"] <= self.ended)


@dataclass
class Plan:
    """One pipeline: what is asked for, and what became of it."""

    trigger: dict[str, Any]
    overlap: str
    rests: list[Rest] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    deleted: bool = False

    @property
    def changes(self) -> dict[str, Any]:
        return {"triggers": [self.trigger], "overlap": self.overlap}


def a_trigger(day: Day, chance: random.Random) -> dict[str, Any]:
    trigger: dict[str, Any] = {"catch_up": chance.choice(["latest", "latest", "all", "none"])}
    if chance.random() < 0.6:
        trigger["cron"] = f"{chance.choice(MINUTES)} {chance.choice(HOURS)} * * *"
        trigger["timezone"] = chance.choice(sorted(available_timezones()))
    else:
        trigger["every"] = chance.choice(list(INTERVALS))
    if (jitter := chance.choice(JITTERS)) is not None:
        trigger["jitter"] = jitter
    first, second = sorted((day.moment(chance), day.moment(chance)))
    if chance.random() < 0.3:
        trigger["start"] = (first - timedelta(hours=chance.randrange(48))).isoformat()
    if chance.random() < 0.2:
        trigger["end"] = second.isoformat()
    return trigger


def another_trigger(before: dict[str, Any], day: Day, chance: random.Random) -> dict[str, Any]:
    """One that fires at other times."""
    while times(trigger := a_trigger(day, chance)) == times(before):
        pass
    return trigger


def times(trigger: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trigger.items() if name not in ("catch_up", "jitter")}


def a_plan(day: Day, chance: random.Random) -> Plan:
    return Plan(a_trigger(day, chance), chance.choice(["queue", "queue", "queue", "skip"]))


def expected(trigger: dict[str, Any], anchor: datetime, day: Day) -> list[datetime]:
    """Every slot after `anchor`, when the trigger was saved, up to the day's end and somewhat further."""
    last = day.end + LATEST
    start = datetime.fromisoformat(trigger["start"]) if "start" in trigger else None
    end = datetime.fromisoformat(trigger["end"]) if "end" in trigger else last
    if "cron" in trigger:
        fires = fires_in(day.ticks(trigger["timezone"]), trigger["cron"], anchor, last)
    else:
        interval = INTERVALS[trigger["every"]]
        fire = anchor + interval if start is None else start
        fires = []
        while fire < last:
            fires.append(fire)
            fire += interval
    return [fire for fire in fires if anchor < fire <= end and (start is None or fire >= start)]


def check_plan(plan: Plan, slots: list[Record], day: Day) -> None:
    """Each moment of each trigger has its one slot, which ended as it may; there is no other."""
    fired = min((slot["decided_at"] for slot in slots if slot["outcome"] == "fired"), default=None)
    unclaimed = len(slots)
    for life in plan.lives:
        mine = [slot for slot in slots if life.has(slot)]
        fires = expected(life.trigger, life.anchor, day)
        last = day.end if life.ended is None else min(life.ended, day.end)
        assert [slot["slot_at"] for slot in mine] == [fire for fire in fires if fire <= last], (life, plan)
        assert Judge(plan, life, fired).wrong(mine, fires) == []
        unclaimed -= len(mine)
    assert unclaimed == 0, f"slots outside of the life of any trigger: {plan}"


@dataclass(frozen=True)
class Judge:
    """Says what is wrong with how the slots of a trigger ended; no run of these pipelines ever does."""

    plan: Plan
    life: Life
    fired: datetime | None
    """When the pipeline fired first."""

    def wrong(self, slots: list[Record], fires: list[datetime]) -> list[str]:
        """`fires` are the moments of the slots, and of those behind them."""
        return [
            f"{dict(slot)} of {self.life}, {self.plan}"
            for place, slot in enumerate(slots)
            if not self._may_be(slot, fires[place + 1 : place + 2])
        ]

    def _may_be(self, slot: Record, following: list[datetime]) -> bool:
        now, at, ended = slot["decided_at"] - self.life.delay, slot["slot_at"], self.life.ended
        if ended is not None and slot["decided_at"] >= ended:
            return bool(at <= ended and slot["reason"] == self.life.reason)
        if now < at:
            return False
        catch_up, newer = self.life.trigger["catch_up"], any(fire <= now for fire in following)
        match slot["reason"]:
            case None:
                return not any(self._rested(rest, slot) for rest in self.plan.rests)
            case "pipeline-paused":
                return any(
                    rest.began[0] <= slot["decided_at"] and (rest.ended is None or at <= rest.ended[1])
                    for rest in self.plan.rests
                )
            case "newer-slot-due":
                return catch_up == "latest" and newer
            case "missed":
                return catch_up == "none" and (newer or now - at > MISSED)
            case "run-overlaps":
                return self.plan.overlap == "skip" and self.fired is not None and self.fired <= slot["decided_at"]
        return False

    def _rested(self, rest: Rest, slot: Record) -> bool:
        """Whether it was surely to be skipped for this pause."""
        if rest.ended is None or slot["decided_at"] < rest.ended[0]:
            return bool(slot["decided_at"] > rest.began[1])
        return bool(slot["decided_at"] > rest.ended[1] and slot["slot_at"] < rest.ended[0])


def by_pipeline(slots: list[Record]) -> dict[UUID, list[Record]]:
    found: dict[UUID, list[Record]] = {}
    for slot in slots:
        found.setdefault(slot["pipeline_id"], []).append(slot)
    return found
