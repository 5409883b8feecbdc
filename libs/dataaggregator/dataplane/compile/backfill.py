"""What of a pipeline a backfill runs: the way of new rows, from sources read incrementally into what is merged."""

from collections.abc import Iterator, Sequence

from dataaggregator.contracts.pipeline import ResolvedDestination, ResolvedPipeline
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan
from dataaggregator.errors import FieldError, Invalid

CODE = "backfill-impossible"


def backfilled(definition: ResolvedPipeline, *, overwrite: bool) -> ResolvedPipeline:
    """Without what has all its rows after each run anyway: sources that are read whole or kept, and what they feed.

    Raises Invalid naming every reason why rows of an interval would not come right; with `overwrite` they may take the
    place of newer ones.
    """
    plan = compile_pipeline(definition)
    reached = _reached(plan, definition)
    if wrong := [*_nothing_new(definition, reached), *_doubled_or_overwritten(definition, reached, overwrite)]:
        raise Invalid(CODE, "Intervals of this pipeline cannot be loaded again as it is.", errors=wrong)
    needed = plan.upstream({node.input for node in reached})
    changes = {
        "sources": {name: source for name, source in definition.sources.items() if name in needed},
        "transformations": tuple(one for one in definition.transformations if one.name in needed),
        "destinations": tuple(_in_one_transaction(definition.destinations[node.index]) for node in reached),
    }
    return definition.model_copy(update=changes)


def _reached(plan: Plan, definition: ResolvedPipeline) -> Sequence[DestinationNode]:
    new = {name for name, one in definition.sources.items() if one.read == "incremental" and one.keep is None}
    return [node for node in plan.destinations if new & plan.upstream({node.input})]


def _nothing_new(definition: ResolvedPipeline, reached: Sequence[DestinationNode]) -> Iterator[FieldError]:
    if definition.replicate is not None:
        message = "a pipeline that replicates a whole schema has no backfill: read the stream in a pipeline of its own"
        yield FieldError("replicate", message, "backfill-replicate")
    elif not reached:
        message = (
            "none is read incrementally without keep: every run has all rows, and there is no cursor to go by; "
            "run the pipeline with full_refresh"
        )
        yield FieldError("sources", message, "backfill-not-incremental")


def _doubled_or_overwritten(
    definition: ResolvedPipeline, reached: Sequence[DestinationNode], overwrite: bool
) -> Iterator[FieldError]:
    for node in reached:
        path, one = f"destinations[{node.index}]", definition.destinations[node.index]
        if one.write != "merge":
            message = f"{one.write} would write rows again that are there; write with merge and a key"
            yield FieldError(f"{path}.write", message, "backfill-append")
        elif one.version_field is None and not overwrite:
            message = (
                "nothing says which row is newer: give the destination a version_field, or say overwrite: true if the "
                "rows of the intervals are to win"
            )
            yield FieldError(f"{path}.version_field", message, "backfill-overwrites")
        elif one.delete_when is not None and not overwrite:
            message = (
                "a row that was deleted since has left no version to be compared with, and might come back; say "
                "overwrite: true if it may"
            )
            yield FieldError(f"{path}.delete_when", message, "backfill-overwrites")


def _in_one_transaction(destination: ResolvedDestination) -> ResolvedDestination:
    """The slot is what is committed at once: chunks go by the cursor that a backfill leaves alone."""
    return destination.model_copy(update={"chunk_rows": None})
