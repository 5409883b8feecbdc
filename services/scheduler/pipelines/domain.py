"""Pipelines, domain: what a pipeline is, how what it names is resolved, and what its runs may be given."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.pipeline import (
    PipelineDefinition,
    ResolvedDestination,
    ResolvedPipeline,
    ResolvedSource,
    ResolvedTransformation,
)
from dataaggregator.contracts.replicate import (
    Replicate,
    ResolvedReplicate,
    ResolvedReplicateFrom,
    ResolvedReplicateTo,
)
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.contracts.triggers import AfterTrigger, CronTrigger, EveryTrigger, FilesTrigger, WebhookTrigger
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.definition import Saved
from dataaggregator.errors import Conflict, FieldError, Invalid
from services.scheduler.fires import check_cron, fingerprint
from services.scheduler.pipelines.side_by_side import side_by_side


class Status(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Pipeline(Saved[PipelineDefinition]):
    """A saved pipeline; `active_since` is when its triggers began to count (created, or resumed)."""

    status: Status
    status_reason: str | None
    active_since: datetime
    waiting: tuple[DestinationDifference, ...] = ()
    """Differences of schema that keep it blocked until somebody approves them."""
    approved: tuple[DestinationDifference, ...] = ()
    expected_by: datetime | None = None
    """When the next success is due, where a clock says so; and since when it is late."""
    late_since: datetime | None = None

    def approve(self, wanted: Sequence[DestinationDifference] | None) -> tuple[DestinationDifference, ...]:
        """Those that are meant, all without a wish; raises Conflict for what does not wait."""
        if strange := [one for one in wanted or () if one not in self.waiting]:
            named = ", ".join(f"{one.field} of {one.stream}" for one in strange)
            raise Conflict("schema-nothing-waits", f"{named}: no such change waits at the pipeline {self.name!r}.")
        if not self.waiting:
            raise Conflict("schema-nothing-waits", f"No change of schema waits at the pipeline {self.name!r}.")
        return self.waiting if wanted is None else tuple(wanted)

    def approved_behind(self, carried: Collection[DestinationDifference]) -> tuple[DestinationDifference, ...]:
        """What is still approved once a run that carried these has loaded. A change is made once; that the rows lack a
        column stays as it is, and so it does where the change was to let them."""
        spent = {one: _lacking(one) for one in carried}
        left = (spent.get(one, one) for one in self.approved)
        return tuple(dict.fromkeys(one for one in left if one is not None))

    def must_be_active(self) -> None:
        if self.status is Status.PAUSED:
            raise Conflict("pipeline-paused", f"The pipeline {self.name!r} is paused; resume it first.")
        if self.status is Status.BLOCKED:
            raise Conflict("pipeline-blocked", f"The pipeline {self.name!r} is blocked: {self.status_reason}.")


def _lacking(one: DestinationDifference) -> DestinationDifference | None:
    if one.kind == "changed" and one.before == f"{one.after} NOT NULL":
        return one.model_copy(update={"kind": "removed", "before": one.after, "after": None})
    return one if one.kind == "removed" else None


@dataclass(frozen=True)
class Connector:
    """What the scheduler knows of a connector."""

    id: UUID
    name: str
    type: str


@dataclass(frozen=True)
class Material:
    """What the names in a definition stand for: connectors as written, transformations by name, other pipelines.

    `pipelines` None: those of a saved definition, which are there because it names them.
    """

    connectors: Mapping[str, Connector]
    transformations: Mapping[str, TransformationDefinition]
    pipelines: Mapping[str, UUID] | None = None


def connectors_named(definition: PipelineDefinition) -> frozenset[str]:
    return frozenset(name for _, name in _connectors(definition))


def transformations_named(definition: PipelineDefinition) -> frozenset[str]:
    return frozenset(use for use in definition.transformations if isinstance(use, str))


def pipelines_named(definition: PipelineDefinition) -> frozenset[str]:
    """Those that it comes after."""
    return frozenset(name for _, trigger in _after(definition) for name in trigger.after)


def resolve(definition: PipelineDefinition, material: Material) -> ResolvedPipeline:
    """The whole definition as a run carries it; raises Invalid naming every wrong field."""
    types = {written: connector.type for written, connector in material.connectors.items()}
    wrong = [*_unknown(definition, material), *side_by_side(definition, types), *_triggers(definition, material)]
    try:
        plan = compile_pipeline(definition, material.transformations)
    except Invalid as error:
        if wrong:
            raise Invalid("definition-invalid", error.detail, errors=[*wrong, *error.errors]) from error
        raise
    if wrong:
        raise Invalid("definition-invalid", "The pipeline cannot be saved like this.", errors=wrong)
    inputs = {node.index: node.input for node in plan.destinations}
    return ResolvedPipeline(
        name=definition.name,
        replicate=None if definition.replicate is None else _resolved(definition.replicate, material),
        sources={
            name: ResolvedSource(**_fields(source), **_known(material, source.connector))
            for name, source in definition.sources.items()
        },
        transformations=tuple(
            ResolvedTransformation(name=node.name, inputs=node.inputs, steps=node.steps) for node in plan.transforms
        ),
        destinations=tuple(
            ResolvedDestination(
                **_fields(destination) | {"input": inputs[index]}, **_known(material, destination.connector)
            )
            for index, destination in enumerate(definition.destinations)
        ),
        parameters=definition.parameters,
        retry=definition.retry,
        timeout_seconds=definition.timeout.seconds if definition.timeout else None,
        on_rejected=definition.on_rejected,
        **({"runs_on": definition.runs_on} if definition.runs_on else {}),
    )


def _resolved(replicate: Replicate, material: Material) -> ResolvedReplicate:
    came, to = replicate.from_, replicate.to
    ends = {
        "from_": ResolvedReplicateFrom(**_fields(came), **_known(material, came.connector)),
        "to": ResolvedReplicateTo(**_fields(to), **_known(material, to.connector)),
    }
    return ResolvedReplicate(**dict(replicate) | ends)


def parameters(definition: PipelineDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run as plain JSON: what was given, else the defaults; raises Invalid naming every wrong one."""
    parameter_values(definition.parameters, given)
    return {name: given.get(name, parameter.default) for name, parameter in definition.parameters.items()}


def _connectors(definition: PipelineDefinition) -> Iterator[tuple[str, str]]:
    """Field path and name as written."""
    if definition.replicate is not None:
        yield "replicate.from.connector", definition.replicate.from_.connector
        yield "replicate.to.connector", definition.replicate.to.connector
    for name, source in definition.sources.items():
        yield f"sources.{name}.connector", source.connector
    for index, destination in enumerate(definition.destinations):
        yield f"destinations[{index}].connector", destination.connector
    for index, trigger in enumerate(definition.triggers):
        if isinstance(trigger, FilesTrigger):
            yield f"triggers[{index}].files.connector", trigger.files.connector


def _unknown(definition: PipelineDefinition, material: Material) -> Iterator[FieldError]:
    for field, name in _connectors(definition):
        if name not in material.connectors:
            yield FieldError(field, f"there is no connector {name!r} in this workspace", "connector-unknown")


def _after(definition: PipelineDefinition) -> Iterator[tuple[str, AfterTrigger]]:
    """Field path and trigger."""
    for index, trigger in enumerate(definition.triggers):
        if isinstance(trigger, AfterTrigger):
            yield f"triggers[{index}].after", trigger


def in_a_circle(definition: PipelineDefinition) -> Invalid:
    wrong = [
        FieldError(field, "one of these comes after this pipeline itself: none of them would ever fire", "after")
        for field, _ in _after(definition)
    ]
    return Invalid("definition-invalid", "Pipelines would wait for each other in a circle.", errors=wrong)


def _unknown_pipelines(definition: PipelineDefinition, material: Material) -> Iterator[FieldError]:
    for field, trigger in _after(definition):
        for name in trigger.after:
            if material.pipelines is not None and name not in material.pipelines:
                yield FieldError(field, f"there is no pipeline {name!r} in this workspace", "pipeline-unknown")


def _triggers(definition: PipelineDefinition, material: Material) -> Iterator[FieldError]:
    yield from _unknown_pipelines(definition, material)
    seen: set[str] = set()
    for index, trigger in enumerate(definition.triggers):
        if isinstance(trigger, CronTrigger):
            if wrong := check_cron(trigger.cron):
                yield FieldError(f"triggers[{index}].cron", wrong, "cron")
        elif isinstance(trigger, EveryTrigger) and trigger.every.seconds < 1:
            yield FieldError(f"triggers[{index}].every", "at least one second", "duration")
        elif isinstance(trigger, FilesTrigger) and trigger.files.every.seconds < 1:
            yield FieldError(f"triggers[{index}].files.every", "at least one second", "duration")
        elif isinstance(trigger, WebhookTrigger):
            yield from _unknown_parameters(f"triggers[{index}].parameters", trigger, definition)
        if fingerprint(trigger) in seen:
            yield FieldError(f"triggers[{index}]", "the same trigger stands here twice", "trigger-twice")
        seen.add(fingerprint(trigger))
    alone = any(not isinstance(trigger, WebhookTrigger) for trigger in definition.triggers)
    for name, parameter in definition.parameters.items():
        if alone and parameter.default is None:
            message = "a pipeline with such triggers needs a default here: nobody is there to give the value"
            yield FieldError(f"parameters.{name}.default", message, "missing-field")


def _unknown_parameters(field: str, trigger: WebhookTrigger, definition: PipelineDefinition) -> Iterator[FieldError]:
    for name in trigger.parameters or ():
        if name not in definition.parameters:
            yield FieldError(f"{field}.{name}", "the pipeline has no such parameter", "unknown-field")


def _fields(part: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(part).items() if name != "connector"}


def _known(material: Material, written: str) -> dict[str, Any]:
    connector = material.connectors[written]
    return {
        "connector_id": connector.id,
        "connector_name": connector.name,
        "connector_type": connector.type,
    }
