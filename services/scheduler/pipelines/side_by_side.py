"""Pipelines, domain: whether runs of a pipeline may be at work side by side without losing or doubling a row."""

from collections.abc import Iterator, Mapping

from dataaggregator.connector.registry import connector_types
from dataaggregator.contracts.pipeline import DestinationDefinition, PipelineDefinition
from dataaggregator.errors import FieldError


def side_by_side(definition: PipelineDefinition, types: Mapping[str, str]) -> Iterator[FieldError]:
    """Every reason against the `concurrency` that is wished; `types` are those of the connectors by their names."""
    if definition.concurrency > 1:
        for reason in _reasons(definition, types):
            yield FieldError("concurrency", f"only 1: {reason}", "concurrency")


def _reasons(definition: PipelineDefinition, types: Mapping[str, str]) -> Iterator[str]:
    if definition.replicate is not None:
        yield "runs that replicate a schema go on from where the one before ended"
    for name, source in definition.sources.items():
        if source.read == "incremental":
            yield f"runs that read {name} incrementally go on from where the one before ended"
    for destination in definition.destinations:
        if (reason := _against(destination)) is not None:
            yield f"{destination.stream}: {reason}"
        type_ = types.get(destination.connector)
        if type_ is not None and not _keeps_lanes(type_):
            yield f"a destination of type {type_} takes one run of a pipeline at a time"


def _keeps_lanes(name: str) -> bool:
    """One that is not installed here says nothing of itself."""
    type_ = connector_types().get(name)
    return type_ is not None and type_.side_by_side


def _against(destination: DestinationDefinition) -> str | None:
    if destination.write == "replace":
        return "with replace the run that commits last wins, which may have read first"
    if destination.write == "merge" and destination.version_field is None:
        return "without a version_field an older row may take the place of a newer one"
    if destination.delete_when is not None:
        return "a row that one run has deleted may be brought back by another that read it before"
    return None
