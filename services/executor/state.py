"""state: where reading goes on in a pipeline, from what runs have committed and what was set by hand since; pure."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dataaggregator.connector.cursor_values import forward, wrong
from dataaggregator.contracts.state import CursorState, CursorValue, CursorWish, StateWish
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Conflict, FieldError, Invalid
from services.executor.store.cursors import EVERY, ByHand, StoredCursor

TWICE = "is appended to: rows read again would be there twice; run once with full_refresh instead, or write with merge"
Wanted = tuple[str, str, dict[str, Any] | None]
"""Source stream, destination, and the cursor to go on from."""


@dataclass(frozen=True)
class State:
    """What is known of a pipeline; `appended` are the destinations where no row may be read twice."""

    cursors: Sequence[StoredCursor]
    by_hand: Sequence[ByHand]
    appended: Collection[str] = ()

    @property
    def version(self) -> int:
        return max([0, *(one.epoch for one in self.cursors), *(one.wanted.epoch for one in self.by_hand)])

    def shown(self) -> list[CursorState]:
        return [self._shown(one) for one in self.cursors]

    def _shown(self, known: StoredCursor) -> CursorState:
        since = [
            one
            for one in self.by_hand
            if one.wanted.epoch > known.epoch and one.wanted.covers(known.destination, known.source)
        ]
        newest = max(since, key=lambda one: one.wanted.epoch, default=None)
        return CursorState(
            source=known.source,
            destination=known.destination,
            cursor=known.cursor if newest is None else newest.wanted.cursor,
            run_id=known.run_id,
            committed_at=known.committed_at,
            set_at=None if newest is None else newest.set_at,
        )

    def reset(self) -> list[Wanted]:
        """Everything, also what is not known here; raises Conflict where it would be doubled."""
        if doubled := sorted({one.destination for one in self.cursors if one.destination in self.appended}):
            raise Conflict("state-append", f"{', '.join(doubled)} {TWICE}.")
        return [(EVERY, EVERY, None)]

    def wanted(self, wish: StateWish) -> list[Wanted]:
        """Of each cursor that is meant; raises Invalid naming every part of the wish that cannot be."""
        found: dict[tuple[str, str], dict[str, Any] | None] = {}
        errors: list[FieldError] = []
        for index, one in enumerate(wish.cursors):
            path = f"cursors[{index}]"
            meant = [known for known in self.cursors if _meant(one, known)]
            if not meant:
                errors.append(self._unknown(path, one))
            for known in meant:
                if (known.source, known.destination) in found:
                    message = f"the cursor of {known.source} into {known.destination} is set twice"
                    errors.append(FieldError(path, message, "set-twice"))
                errors += self._unfit(f"{path}.cursor", one.cursor, known)
                cursor = None if one.cursor is None else known.cursor | {"value": one.cursor.value}
                found[known.source, known.destination] = cursor
        if errors:
            raise Invalid("state-invalid", "The state cannot be set like this.", errors=errors)
        return [(source, destination, cursor) for (source, destination), cursor in found.items()]

    def _unknown(self, path: str, wish: CursorWish) -> FieldError:
        known = [known for known in self.cursors if _named(wish.source, known)]
        if known:
            places = ", ".join(one.destination for one in known)
            message = f"{wish.source} has no cursor into {wish.destination!r}, only into {places}"
            return FieldError(f"{path}.destination", message, "destination-unknown")
        streams = ", ".join(sorted({one.source for one in self.cursors})) or "none yet: a run has to commit one first"
        message = f"there is no cursor of {wish.source!r}; there are {streams}"
        return FieldError(f"{path}.source", message, "stream-unknown")

    def _unfit(self, path: str, value: CursorValue | None, known: StoredCursor) -> Iterator[FieldError]:
        held = Cursor.from_json(known.cursor)
        if value is not None:
            for name, given, fixed in (("field", value.field, held.field), ("type", value.type, held.type)):
                if given is not None and given != fixed:
                    yield FieldError(f"{path}.{name}", f"is {fixed!r} and stays so", "cursor-fixed")
            if (message := wrong(held.type, value.value)) is not None:
                yield FieldError(f"{path}.value", message, "cursor-value")
                return
        after = None if value is None else Cursor(held.field, held.type, value.value)
        if known.destination in self.appended and not forward(held, after):
            message = f"{known.destination}, which has all up to {held.value}, {TWICE}"
            yield FieldError(path, message, "state-append")


def _meant(wish: CursorWish, known: StoredCursor) -> bool:
    return _named(wish.source, known) and wish.destination in (None, known.destination)


def _named(source: str, known: StoredCursor) -> bool:
    """As the state shows it, by the name that the pipeline has for the source, or by the stream alone."""
    name, _, stream = known.source.partition(":")
    return source in (known.source, name, stream)
