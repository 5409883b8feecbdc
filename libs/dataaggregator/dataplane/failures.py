"""How an exception in a run becomes its RunError: where it happened, whether another attempt may help."""

import asyncio
import contextlib
import errno
from collections.abc import Iterator

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.run import RunError
from dataaggregator.errors import PlatformError, Transient

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StageError(Exception):
    """Carries the stage; the cause says what happened."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


@contextlib.contextmanager
def at(stage: str) -> Iterator[None]:
    """Whatever fails inside failed at this stage; the innermost one that said so counts."""
    try:
        yield
    except (StageError, ExceptionGroup):
        raise
    except Exception as error:
        raise StageError(stage) from error


def leaf(error: BaseException) -> tuple[BaseException, str | None]:
    """The exception that started it, and its stage: out of groups (the first one with a name) and of StageError."""
    if isinstance(error, BaseExceptionGroup):
        found = [leaf(one) for one in error.exceptions if not isinstance(one, asyncio.CancelledError)]
        named = [one for one in found if isinstance(one[0], PlatformError)]
        return (named or found or [(error, None)])[0]
    if isinstance(error, StageError) and error.__cause__ is not None:
        return leaf(error.__cause__)[0], error.stage
    return error, None


def run_error(error: BaseException, stage: str | None = None) -> RunError:
    """The text of an error that is not ours to show stays out: the log of the run has its trace."""
    cause, where = leaf(error)
    stage = where or stage
    if isinstance(cause, PlatformError):
        code, detail = cause.code, cause.detail
    elif isinstance(cause, OSError) and cause.errno in NO_ROOM:
        code, detail = "disk-full", "The disk on which runs keep their rows has no room left."
    else:
        code = "internal-error"
        detail = f"An error of the platform itself ({type(cause).__name__}); the run's log has its trace."
    return RunError(
        code=code,
        detail=detail,
        help=help_section(code),
        stage=stage,
        # Room may be made, and another executor has another disk.
        retryable=isinstance(cause, Transient) or code == "disk-full",
    )
