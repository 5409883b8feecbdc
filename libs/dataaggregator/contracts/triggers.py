"""Contracts: what starts a run by itself: a cron line or an interval."""

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Sent
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.variants import choose, exactly_one, mark

CatchUp = Literal["latest", "all", "none"]
TRIGGER_KINDS = ("cron", "every")


def _cron(value: str) -> str:
    try:
        CronSim(value, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise PydanticCustomError(
            "cron", f"not a cron line: {error}; write minute hour day month weekday, such as 15 * * * *"
        ) from error
    return value


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(value: str) -> str:
    if value not in _zones():
        raise PydanticCustomError("timezone", "unknown time zone; write one such as Europe/Zurich or UTC")
    return value


class CronTrigger(Sent):
    """Fires at the moments of a cron line in a time zone."""

    cron: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    catch_up: CatchUp = "latest"


class EveryTrigger(Sent):
    """Fires once an interval."""

    every: Duration
    catch_up: CatchUp = "latest"


def _kind(value: Any) -> str:
    if isinstance(value, CronTrigger):
        return "cron"
    if isinstance(value, EveryTrigger):
        return "every"
    return exactly_one(value, TRIGGER_KINDS, what="trigger", besides=("timezone", "catch_up"))


def _known(value: Any) -> Any:
    _kind(value)
    return value


Trigger = Annotated[
    Annotated[CronTrigger, mark("cron")] | Annotated[EveryTrigger, mark("every")],
    choose(_kind),
    BeforeValidator(_known),
]
