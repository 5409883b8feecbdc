"""What a whole schema must not be told: to replace tables by new rows, to append rows that were read before; nor one of
its streams what could never hold for it."""

from collections.abc import Iterator

from dataaggregator.contracts.replicate import Override, Replicate, ResolvedReplicate
from dataaggregator.dataplane.compile.patterns import Patterns
from dataaggregator.errors import FieldError

AnyReplicate = Replicate | ResolvedReplicate
WRITE = "replicate.to.write"
WILD = frozenset("*?")
"""Nobody knows which of several patterns would come first: the definition is kept without an order."""


def wrong_modes(replicate: AnyReplicate) -> Iterator[FieldError]:
    yield from _wrong_rows(replicate, WRITE)
    if replicate.from_.read == "full_refresh" and replicate.to.chunk_rows is not None:
        yield _no_chunks("replicate.to.chunk_rows", "give `from` read: incremental")
    for name, one in replicate.overrides.items():
        yield from _wrong_override(replicate, name, one, f"replicate.overrides.{name}")


def _wrong_rows(replicate: AnyReplicate, field: str) -> Iterator[FieldError]:
    """As for a single incremental source, and appending what is read whole besides: with as many streams as there are
    nobody would see that each run doubles them."""
    read, write = replicate.from_.read, replicate.to.write
    if (read, write) == ("incremental", "replace"):
        message = (
            "replace would leave nothing but the new rows of streams that are read incrementally; "
            "write with merge or append, or read with full_refresh"
        )
        yield FieldError(field, message, "incremental-replace")
    if (read, write) == ("full_refresh", "append"):
        message = (
            "every run would append all rows once more; write with replace or merge, or give `from` read: incremental"
        )
        yield FieldError(field, message, "full-refresh-append")
    if (read, write) == ("incremental", "append") and replicate.from_.lateness is not None:
        message = (
            "rows are read again for their lateness: appended, they would be there twice; "
            "write with merge, or do without lateness"
        )
        yield FieldError(field, message, "lateness-append")


def _wrong_override(replicate: AnyReplicate, name: str, one: Override, path: str) -> Iterator[FieldError]:
    """What holds for the stream is judged, and told where it is said."""
    if WILD.intersection(name) or not Patterns.of(replicate.from_.streams).fit(name):
        message = "a stream that no pattern in streams means; an override names one of them, in full"
        yield FieldError(path, message, "stream-unknown")
    mine = replicate.of(name)
    if said := next((field for field in ("write", "read", "lateness") if getattr(one, field) is not None), None):
        yield from _wrong_rows(mine, f"{path}.{said}")
    if mine.from_.read == "full_refresh":
        yield from (
            FieldError(f"{path}.{field}", f"{field} belongs to read: incremental", field)
            for field in ("cursor_field", "lateness")
            if getattr(one, field) is not None
        )
        if one.chunk_rows is not None:
            yield _no_chunks(f"{path}.chunk_rows", "give the stream read: incremental")
    yield from _wrong_writing(mine, one, path)


def _wrong_writing(mine: AnyReplicate, one: Override, path: str) -> Iterator[FieldError]:
    to = mine.to
    for field in ("key", "version_field", "delete_when"):
        if getattr(one, field) is not None and to.write != "merge":
            yield FieldError(f"{path}.{field}", f"{field} belongs to write: merge", field)
    if one.replace_strategy == "swap" and to.write == "append":
        yield FieldError(f"{path}.replace_strategy", "nothing is replaced where rows are appended", "replace_strategy")
    if to.delete_when is not None and to.delete_when in (to.version_field, *(one.key or ())):
        yield FieldError(f"{path}.delete_when", "delete_when names a field beside key and version_field", "delete_when")
    needed = (*(one.key or ()), one.version_field, one.delete_when)
    if left_out := [field for field in needed if field is not None and not one.writes(field)]:
        field = "drop" if one.columns is None else "columns"
        message = f"{', '.join(left_out)} would be left out, by which rows are merged"
        yield FieldError(f"{path}.{field}", message, "field-left-out")


def _no_chunks(field: str, cure: str) -> FieldError:
    return FieldError(field, f"chunks go by the cursor: {cure}, or leave them out", "chunk-rows-impossible")
