"""What a whole schema must not be told: to replace tables by new rows, or to append rows that were read before."""

from collections.abc import Iterator

from dataaggregator.contracts.replicate import Replicate, ResolvedReplicate
from dataaggregator.errors import FieldError

WRITE = "replicate.to.write"


def wrong_modes(replicate: Replicate | ResolvedReplicate) -> Iterator[FieldError]:
    """As for a single incremental source, and appending what is read whole besides: with as many streams as there are
    nobody would see that each run doubles them."""
    read, write = replicate.from_.read, replicate.to.write
    if (read, write) == ("incremental", "replace"):
        message = (
            "replace would leave nothing but the new rows of streams that are read incrementally; "
            "write with merge or append, or read with full_refresh"
        )
        yield FieldError(WRITE, message, "incremental-replace")
    if (read, write) == ("full_refresh", "append"):
        message = (
            "every run would append all rows once more; write with replace or merge, or give `from` read: incremental"
        )
        yield FieldError(WRITE, message, "full-refresh-append")
    if read == "full_refresh" and replicate.to.chunk_rows is not None:
        message = "chunks go by the cursor: give `from` read: incremental, or leave them out"
        yield FieldError("replicate.to.chunk_rows", message, "chunk-rows-impossible")
    if write == "append" and replicate.from_.lateness is not None:
        message = (
            "rows are read again for their lateness: appended, they would be there twice; "
            "write with merge, or do without lateness"
        )
        yield FieldError(WRITE, message, "lateness-append")
