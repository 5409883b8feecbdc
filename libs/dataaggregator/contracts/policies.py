"""Contracts: what a pipeline wants done when an attempt fails or rows are rejected, and how old its rows may get."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Sent
from dataaggregator.contracts.durations import Duration


class RetryPolicy(Sent):
    """How often an attempt is made and how long the pauses between are."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    backoff: Literal["exponential", "fixed"] = "exponential"
    initial: Duration = Duration("10s")
    maximum: Duration = Duration("10m")

    @model_validator(mode="after")
    def _initial_below_maximum(self) -> "RetryPolicy":
        if self.initial.seconds > self.maximum.seconds:
            raise PydanticCustomError("retry", "initial must not be longer than maximum")
        return self

    def pause_seconds(self, attempt: int) -> float:
        """The pause after attempt number `attempt` (1, 2, …) has failed; without jitter."""
        if self.backoff == "fixed":
            return self.initial.seconds
        doublings = min(attempt - 1, 60)
        return float(min(self.initial.seconds * 2**doublings, self.maximum.seconds))


class Freshness(Sent):
    """How long after a success the next one is due, whatever the triggers say; later than that the pipeline is late."""

    within: Duration


_THRESHOLD = r"^[0-9]+(\.[0-9]+)?%$|^[0-9]+$"
_IS_THRESHOLD = re.compile(_THRESHOLD)


def _threshold(value: Any) -> Any:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    share = isinstance(text, str) and _IS_THRESHOLD.match(text)
    if not share or (text.endswith("%") and float(text[:-1]) > 100):
        raise PydanticCustomError("threshold", "write a share such as 1%, or a number of rows such as 100")
    return text


class OnRejected(Sent):
    """What more rejected rows than this do, judged before anything is committed: the run fails, or warns."""

    threshold: Annotated[str, Field(pattern=_THRESHOLD), BeforeValidator(_threshold, json_schema_input_type=str | int)]
    then: Literal["fail", "warn"] = "fail"

    def exceeded(self, rejected: int, read: int) -> bool:
        """Whether `rejected` of `read` rows is more than the threshold allows."""
        if self.threshold.endswith("%"):
            return rejected * 100 > float(self.threshold[:-1]) * read
        return rejected > int(self.threshold)

    def told(self, rejected: int, read: int) -> str:
        """What is said when it is exceeded."""
        return f"{rejected} of {read} rows were rejected; the pipeline allows {self.threshold}."
