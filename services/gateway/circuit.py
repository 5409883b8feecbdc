"""Circuit: whether a service is asked at all, after calls to it have failed one after another. Pure."""

import time
from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
OPEN_SECONDS = 1.0


class State(StrEnum):
    """``closed``: it is asked; ``open``: nobody is sent to it; ``half_open``: one call tries whether it is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit:
    """What is known of one service. A failure is a call that got no answer; any answer is a success."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failed = 0
        self._opened_at = 0.0
        self._trying = False

    @property
    def state(self) -> State:
        if self._failed < FAILURES:
            return State.CLOSED
        return State.HALF_OPEN if self._trying or self.rest_seconds <= 0 else State.OPEN

    @property
    def rest_seconds(self) -> float:
        """So long nobody is sent to it; 0 while it is closed, or may be tried."""
        return 0.0 if self._failed < FAILURES else max(0.0, self._opened_at + OPEN_SECONDS - self._monotonic())

    def admit(self) -> bool:
        """May a call go? Of those that come when it may be tried again, one does."""
        if self._failed < FAILURES:
            return True
        if self._trying or self.rest_seconds > 0:
            return False
        self._trying = True
        return True

    def succeeded(self) -> bool:
        """It answered; was it given up before?"""
        was_open, self._failed, self._trying = self._failed >= FAILURES, 0, False
        return was_open

    def failed(self) -> bool:
        """It did not; is it given up with this?"""
        self._failed, self._trying, self._opened_at = self._failed + 1, False, self._monotonic()
        return self._failed == FAILURES

    def abandoned(self) -> None:
        """Nothing was learnt: the caller went away, or broke off."""
        self._trying = False
