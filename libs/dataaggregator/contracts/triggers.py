"""Contracts: what starts a run by itself: a cron line, an interval, the end of other pipelines' runs, files, a call."""

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Moment, Name, Sent, Some
from dataaggregator.contracts.document_path import DocumentPath
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.modes import StreamName
from dataaggregator.contracts.uses import NamedConnector
from dataaggregator.contracts.variants import choose, exactly_one, mark

CatchUp = Literal["latest", "all", "none"]
Awaited = Literal["succeeded", "failed", "ended"]
TRIGGER_KINDS = ("cron", "every", "after", "webhook", "files")
BESIDES = ("timezone", "catch_up", "start", "end", "jitter", "on", "signed", "parameters")


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


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise PydanticCustomError("after", "each pipeline is named once")
    return value


def _zone(value: str) -> str:
    if value not in _zones():
        raise PydanticCustomError("timezone", "unknown time zone; write one such as Europe/Zurich or UTC")
    return value


class _Timed(Sent):
    """What fires by the clock: from `start` on, never after `end`, each fire as much later as `jitter` gives it.

    The delay is the same at each fire of one trigger, and differs between those that share their times.
    """

    catch_up: CatchUp = "latest"
    start: Moment | None = None
    end: Moment | None = None
    jitter: Duration | None = None

    @model_validator(mode="after")
    def _ends_behind_its_start(self) -> "_Timed":
        if self.start is not None and self.end is not None and self.end < self.start:
            raise PydanticCustomError("end", "end lies before start: this trigger would never fire")
        return self


class CronTrigger(_Timed):
    """Fires at the moments of a cron line in a time zone."""

    cron: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"


class EveryTrigger(_Timed):
    """Fires once an interval: for the first time at `start`, or an interval after it was saved."""

    every: Duration


class AfterTrigger(Sent):
    """Fires when a run of each of these pipelines, by name or id, has ended so since it fired last.

    Runs that end before it has fired count once. Replays and slots of backfills do not: they bring what runs have left.
    """

    catch_up: ClassVar[CatchUp] = "all"
    after: Annotated[Some[Annotated[str, Field(min_length=1, max_length=100)]], AfterValidator(_each_once)]
    on: Awaited = "succeeded"


class WebhookTrigger(Sent):
    """Fires when its address is called: `POST /api/hooks/{token}`.

    With `signed` only a call that is signed by Standard Webhooks counts. Without `parameters` a call says nothing or
    `{"parameters": {...}}`; with them it says what it likes, and each parameter is what stands at its path.
    """

    catch_up: ClassVar[CatchUp] = "all"
    webhook: Literal[True]
    signed: bool = False
    parameters: dict[Name, DocumentPath] | None = None


class WatchedFiles(NamedConnector):
    """Where files arrive: a file, a folder or a glob below a connector's root, looked at once an interval.

    A file counts when it has not changed for `settle`: one that is still being written does not.
    """

    stream: StreamName
    every: Duration = Duration("1m")
    settle: Duration = Duration("30s")


class FilesTrigger(Sent):
    """Fires when files are new or have changed; what is there at the first look counts as known."""

    catch_up: ClassVar[CatchUp] = "all"
    files: WatchedFiles


_KINDS: dict[type, str] = {
    CronTrigger: "cron",
    EveryTrigger: "every",
    AfterTrigger: "after",
    WebhookTrigger: "webhook",
    FilesTrigger: "files",
}


def _kind(value: Any) -> str:
    if (known := _KINDS.get(type(value))) is not None:
        return known
    return exactly_one(value, TRIGGER_KINDS, what="trigger", besides=BESIDES)


def _known(value: Any) -> Any:
    _kind(value)
    return value


Trigger = Annotated[
    Annotated[CronTrigger, mark("cron")]
    | Annotated[EveryTrigger, mark("every")]
    | Annotated[AfterTrigger, mark("after")]
    | Annotated[WebhookTrigger, mark("webhook")]
    | Annotated[FilesTrigger, mark("files")],
    choose(_kind),
    BeforeValidator(_known),
]
