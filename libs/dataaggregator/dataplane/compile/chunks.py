"""Loads in chunks: only where a source can end a read where it likes, and no step needs the rows of another chunk."""

from collections.abc import Iterator

from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.contracts.steps import Step, ValidateStep
from dataaggregator.errors import FieldError

CODE = "chunk-rows-impossible"


def chunks_impossible(definition: PipelineDefinition | ResolvedPipeline) -> Iterator[FieldError]:
    """Why the first destination that wishes chunks cannot have them: every reason, at the field of the wish."""
    wishes = [at for at, one in enumerate(definition.destinations) if one.chunk_rows is not None]
    for at in wishes[:1]:
        for reason in _reasons(definition):
            yield FieldError(f"destinations[{at}].chunk_rows", f"chunks {reason}", CODE)


def _reasons(definition: PipelineDefinition | ResolvedPipeline) -> Iterator[str]:
    if len(definition.destinations) > 1:
        yield "are for a pipeline with one destination: several would have to agree on each of them"
    if len(definition.sources) > 1:
        yield "are for a pipeline with one source: the rows of several come in no common order"
    for name, source in definition.sources.items():
        if source.read != "incremental":
            yield f"go by the cursor: {name} has to be read: incremental with a cursor_field"
        elif source.keep is not None:
            yield f"never see all rows, which keep: full of {name} is for"


def step_impossible(step: Step, path: str) -> Iterator[FieldError]:
    """A step that looks beyond its row would look no further than its chunk."""
    if isinstance(step, ValidateStep) and any(rule.check.unique for rule in step.rules):
        message = (
            "a check that rows are unique would only see those of one chunk; leave out chunk_rows of the destination"
        )
        yield FieldError(f"{path}.validate", message, CODE)
