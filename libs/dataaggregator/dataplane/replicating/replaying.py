"""Rejected rows of one stream of a whole schema, back to the stream that they came from."""

import pyarrow as pa

from dataaggregator.connector.source import StreamInfo
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.compile.replay import Replayed, replayed_at
from dataaggregator.dataplane.job import ReplicatedStream
from dataaggregator.dataplane.replicating.matching import Patterns
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
    # Where it would be read on is of no matter here: it has its cursor.
    info = StreamInfo(of.stream, fields, of.primary_key, cursor_fields=replicate.from_.cursor_field)
    one = planned(replicate, Ends.of(replicate), info)
    if one.error is not None or Names.of(replicate, one).destination != destination:
        raise Conflict("replay-nowhere", f"{of.stream} does not go to {destination} any more.")
    alone = one.pipeline(after)
    return replayed_at(alone, alone, (0, 0))
