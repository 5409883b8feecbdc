"""Rejected rows of one stream of a whole schema, back to the stream that they came from."""

import pyarrow as pa

from dataaggregator.connector.source import StreamInfo
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.replicate import Override, ResolvedReplicate
from dataaggregator.dataplane.compile.patterns import Patterns
from dataaggregator.dataplane.compile.replay import Replayed, replayed_at
from dataaggregator.dataplane.job import ReplicatedStream
from dataaggregator.dataplane.replicating.planning import Ends, planned
from dataaggregator.dataplane.replicating.uniting import Names
from dataaggregator.errors import Conflict


def replayed_stream(after: ResolvedPipeline, of: ReplicatedStream, fields: pa.Schema, destination: str) -> Replayed:
    """`after`, to be run on rows that `destination` rejected, written as it writes the stream they are `of`.

    Raises Conflict where the stream goes there no more, or is replaced.
    """
    replicate = after.replicate
    if replicate is None or not Patterns.of(replicate.from_.streams).fit(of.stream):
        raise Conflict("replay-nowhere", f"{of.stream} is none of the streams that the pipeline replicates now.")
    override = replicate.override(of.stream) or Override()
    if any(not override.writes(name) for name in fields.names):
        raise Conflict("replay-step-changed", f"The rows have columns of {of.stream} that are not written any more.")
    one = planned(replicate, Ends.of(replicate), _as_read(of, fields, replicate))
    if one.error is not None or Names.of(replicate, one).destination != destination:
        raise Conflict("replay-nowhere", f"{of.stream} does not go to {destination} any more.")
    alone = one.pipeline(after)
    return replayed_at(alone, alone, (0, 0))


def _as_read(of: ReplicatedStream, fields: pa.Schema, replicate: ResolvedReplicate) -> StreamInfo:
    """The stream, with what its rows had when they were read: a cursor, and columns that are not written."""
    override = replicate.override(of.stream) or Override()
    cursors = replicate.of(of.stream).from_.cursor_field
    gone = {*cursors, *(override.drop or ())} - set(fields.names)
    schema = pa.schema([*fields, *(pa.field(name, pa.null()) for name in sorted(gone))])
    return StreamInfo(of.stream, schema, of.primary_key, cursor_fields=cursors)
