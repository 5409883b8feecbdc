"""The bus: applying events in one transaction, one or those of many subjects: order, inbox rows, handlers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dataaggregator.bus import inbox
from dataaggregator.bus.handler import Handler
from dataaggregator.bus.verdict import SequenceGap
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection
from dataaggregator.telemetry import traces


@dataclass(frozen=True)
class Delivery:
    """One event on its way to its handler, for the `tries`th time; `waited` if it has a retry row.

    It came before an earlier one of its subject in `gaps` of the tries: then its handler was not called. What goes
    `alone` shares no transaction: it failed before, and would fail its neighbours too.
    """

    event: Event
    handler: Handler
    tries: int = 1
    waited: bool = False
    gaps: int = 0
    alone: bool = False

    @property
    def subject(self) -> inbox.Subject:
        return self.event.source, self.event.subject


class NotFoldedError(Exception):
    """These cannot be applied together; nothing is said about each of them alone."""


async def apply(
    tx: Connection, schema: str, deliveries: Sequence[Delivery], *, effects: bool = True
) -> dict[int, SequenceGap]:
    """Apply them, those of a subject in the order given; what came before an earlier one, by place, is left alone.

    Without `effects` they count as applied and nothing is done.
    """
    reached = await _positions(tx, schema, deliveries)
    before = dict(reached)
    gaps, due, there = _plan(deliveries, reached)
    waited = [one.waited for one in there]
    fresh = await inbox.add(tx, schema, [one.event for one in there], waited) if there else set()
    if any(one.handler.ordered and one.event.id not in fresh for one in due):
        if len(deliveries) > 1:
            raise NotFoldedError
        reached = before
    settled = [one.event.id for one in there if one.waited]
    if effects:
        await _handle(tx, [one for one in _once(due) if one.event.id in fresh])
    if moved := {subject: last for subject, last in reached.items() if last != before[subject]}:
        await inbox.advance(tx, schema, moved)
    if settled:
        await inbox.settle(tx, schema, settled)
    return gaps


async def _positions(tx: Connection, schema: str, deliveries: Sequence[Delivery]) -> dict[inbox.Subject, int]:
    ordered = [one.event for one in deliveries if one.handler.ordered]
    return await inbox.positions(tx, schema, ordered) if ordered else {}


def _plan(
    deliveries: Sequence[Delivery], reached: dict[inbox.Subject, int]
) -> tuple[dict[int, SequenceGap], list[Delivery], list[Delivery]]:
    """The gaps by place, what is to be handled, what goes into the inbox; `reached` follows."""
    gaps: dict[int, SequenceGap] = {}
    due: list[Delivery] = []
    there: list[Delivery] = []
    for place, one in enumerate(deliveries):
        if one.handler.ordered:
            expected = reached[one.subject] + 1
            if one.event.sequence > expected:
                gaps[place] = SequenceGap(expected, one.event.sequence)
                continue
            if one.event.sequence == expected:
                reached[one.subject] = expected
                due.append(one)
        else:
            due.append(one)
        there.append(one)
    return gaps, due, there


def _once(due: Sequence[Delivery]) -> Iterator[Delivery]:
    """Without what came twice."""
    seen = set()
    for one in due:
        if one.event.id not in seen:
            seen.add(one.event.id)
            yield one


async def _handle(tx: Connection, due: Sequence[Delivery]) -> None:
    """Turn by turn: the first event of each subject, then the second; within a turn those of one kind together."""
    turns: dict[inbox.Subject, int] = {}
    placed = []
    for one in due:
        turn = turns[one.subject] = turns.get(one.subject, 0) + 1
        placed.append((turn, one))
    placed.sort(key=lambda place: (place[0], place[1].event.type))
    for all_at_once, group in groupby((one for _, one in placed), key=lambda one: one.handler.handle_all):
        together = list(group)
        if all_at_once is not None and len(together) > 1:
            await all_at_once([one.event for one in together], tx)
            continue
        for one in together:
            with traces.continue_from(one.event.traceparent, f"consume {one.event.type}"):
                await one.handler.handle(one.event, tx)
