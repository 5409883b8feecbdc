"""Every error code of the platform: a title, and the cure that the troubleshooting guide prints."""

from dataaggregator.catalogue.backfills import BACKFILLS
from dataaggregator.catalogue.calls import CALLS
from dataaggregator.catalogue.definitions import DEFINITIONS
from dataaggregator.catalogue.entry import Entry
from dataaggregator.catalogue.moving import MOVING
from dataaggregator.catalogue.platform import PLATFORM
from dataaggregator.catalogue.replays import REPLAYS
from dataaggregator.catalogue.replicating import REPLICATING
from dataaggregator.catalogue.runs import RUNS

__all__ = ["CATALOGUE", "Entry", "help_section", "problem_type"]

CATALOGUE: dict[str, Entry] = dict(
    sorted((BACKFILLS | CALLS | DEFINITIONS | MOVING | PLATFORM | REPLAYS | REPLICATING | RUNS).items())
)


def problem_type(code: str) -> str:
    """The address of a code's catalogue entry, the ``type`` of a problem."""
    return f"/api/docs/errors#{code}"


def help_section(code: str) -> str:
    """The section of the troubleshooting guide that cures a code, the ``help`` of a problem."""
    return f"docs/troubleshooting/errors.md#{code}"
