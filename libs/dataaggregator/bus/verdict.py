"""The bus: what becomes of an event whose handler raised; the one place that decides."""

import random
from dataclasses import dataclass

from dataaggregator.errors import Conflict, Invalid, Permanent, PlatformError, Transient
from dataaggregator.telemetry.redaction import mask_text

MOST_TRIES = 10
"""Then a person must look: 0.5 s, doubled each time, is about four minutes in all."""

MOST_GAP_TRIES = 65
"""About an hour. Waiting for an earlier event is not the event's own failure, and a closing gap wakes it at once."""

MOST_UNJUDGED_TRIES = 5
"""An event during whose tries the process ended so often in a row ended it."""

FIRST_PAUSE_SECONDS = 0.5
FIRST_GAP_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
LONGEST_GAP_PAUSE_SECONDS = 60.0
LONGEST_REASON = 2_000


@dataclass(frozen=True)
class Ack:
    """Nothing more to do."""


@dataclass(frozen=True)
class Retry:
    """Try again after a while."""

    after_seconds: float


@dataclass(frozen=True)
class Park:
    """Set aside for a person."""


Verdict = Ack | Retry | Park


class SequenceGap(Transient):
    """An event came before an earlier one of its subject."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__("sequence-gap", f"waits for sequence {expected} of its subject, is {found}")


def verdict(error: Exception, tries: int) -> Verdict:
    """What to do after the `tries`th failed delivery; a bug of ours is tried again like a passing fault."""
    if isinstance(error, Conflict):
        return Ack()
    if isinstance(error, Invalid | Permanent):
        return Park()
    if isinstance(error, SequenceGap):
        if tries >= MOST_GAP_TRIES:
            return Park()
        return Retry(_pause(tries, FIRST_GAP_PAUSE_SECONDS, LONGEST_GAP_PAUSE_SECONDS))
    if tries >= MOST_TRIES:
        return Park()
    least = error.retry_after or 0.0 if isinstance(error, Transient) else 0.0
    return Retry(max(_pause(tries, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS), least))


def had_its_tries(tries: int, unjudged: int) -> bool:
    """Whether no other try may be made, counting the one that was about to be.

    Either so many in a row were begun and never judged that the event must be what ended them, or they were all.
    """
    return unjudged > MOST_UNJUDGED_TRIES or tries > MOST_TRIES


def reason(error: Exception) -> tuple[str, str]:
    """Code and sentence for the retry or parked row, which holds any character but NUL."""
    code, told = "internal-error", f"{type(error).__name__}: {error}"
    if isinstance(error, PlatformError):
        code, told = error.code, error.detail
    return code, mask_text(told).replace("\0", "\\0")[:LONGEST_REASON]


def _pause(tries: int, first: float, longest: float) -> float:
    jitter = random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load, guards nothing
    doublings = min(tries - 1, 30)
    return float(min(first * 2**doublings, longest)) * jitter
