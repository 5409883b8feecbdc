"""Where reading goes on: behind what was committed last, or where somebody has set it by hand since."""

from dataaggregator.connector.cursor_values import forward
from dataaggregator.connector.destination import Begun, LoadRequest, WriteKind
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.job import CursorSet, DryRunJob, RunJob
from dataaggregator.errors import Invalid


def go_on_from(job: RunJob | DryRunJob, name: str, load: LoadRequest, begun: Begun) -> dict[str, Cursor]:
    """By source stream; one that is not there is read from its beginning. `name` is the ledger's for the destination.

    The destination is asked before the executor's own record, which it may be ahead of. What was set by hand is obeyed
    once: the commit that obeys it carries a later epoch.
    """
    if job.full_refresh:
        return {}
    found: dict[str, Cursor] = {}
    for source in load.source_streams:
        cursor, epoch = _committed(job, name, source, begun)
        by_hand = [one for one in job.set_by_hand if one.epoch > epoch and one.covers(name, source)]
        if by_hand:
            cursor = _obeyed(max(by_hand, key=lambda one: one.epoch), cursor, load)
        if cursor is not None:
            found[source] = cursor
    return found


def _committed(job: RunJob | DryRunJob, name: str, source: str, begun: Begun) -> tuple[Cursor | None, int]:
    if source in begun.cursors:
        return begun.cursors[source], begun.epochs.get(source, 0)
    for known in job.cursors:
        if (known.destination, known.source) == (name, source):
            return Cursor.from_json(known.cursor), known.epoch
    return None, 0


def _obeyed(by_hand: CursorSet, committed: Cursor | None, load: LoadRequest) -> Cursor | None:
    """Judged here once more: the destination may be ahead of what was known, or be written otherwise since."""
    wanted = None if by_hand.cursor is None else Cursor.from_json(by_hand.cursor)
    if load.write is WriteKind.APPEND and committed is not None and not forward(committed, wanted):
        begins = "from the beginning" if wanted is None else f"from {wanted.value}"
        raise Invalid(
            "state-append",
            f"Somebody has set the state so that reading goes on {begins}, but {load.stream} is appended to and has "
            f"its rows up to {committed.value}: some would be there twice.",
        )
    return wanted
