"""The one tree of errors: what to do next decides the branch.

    PlatformError
    ├─ Invalid            the caller must change something      422 · park · the run fails with the text
    │  ├─ Malformed       it cannot even be read                400
    │  ├─ Unauthenticated who is asking is not known            401
    │  ├─ Denied          known, but may not                    403
    │  ├─ NotFound        not there, or not yours               404
    │  └─ TooLarge        more than is taken or given at once   413
    ├─ Conflict           right, but not in this state          409 · acknowledged
    │  └─ Stale           somebody else changed it first        412
    ├─ Transient          the same thing may work later         503 · retried later
    │  └─ RateLimited     too many in too short a time          429
    └─ Permanent          another system said no for good       502 · park · the run fails

Only ``http/problems.py``, ``bus/consumer.py`` and the runner decide by type. Anything else that is raised is a
bug of ours: 500 with a trace id.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One wrong field: its dotted path (``steps[0].filter``), what is wrong with it, and a stable code."""

    field: str
    message: str
    code: str


class PlatformError(Exception):
    """An error with a stable kebab-case ``code`` of the catalogue and a sentence for the person who sees it.

    ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.detail} [{self.code}]"


class Invalid(PlatformError):
    """What was sent cannot be taken as it is."""


class Malformed(Invalid):
    """What was sent cannot be read."""


class Unauthenticated(Invalid):
    """Nobody, or nobody we can be sure of, is asking."""


class Denied(Invalid):
    """The caller is known and may not do this."""


class NotFound(Invalid):
    """It is not there, or it is not the caller's."""


class TooLarge(Invalid):
    """More was sent, or asked for, than is taken or given at once."""


class Conflict(PlatformError):
    """The thing is not in a state in which this can be done."""


class Stale(Conflict):
    """The version the caller saw is not the current one."""


class Transient(PlatformError):
    """Something we need does not answer now; the same call may work later."""


class RateLimited(Transient):
    """Too many calls in too short a time."""


class Permanent(PlatformError):
    """Another system refused for good."""
