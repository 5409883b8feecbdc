"""Applying, domain: the definitions that were sent, read by their kinds, and saved ones by names that hold anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from dataaggregator.contracts.apply import KINDS, Kind, kind_of, place_of
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.contracts.fields import field_errors
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.errors import FieldError
from services.scheduler.pipelines.domain import connectors_named, pipelines_named, transformations_named

D = TypeVar("D", ConnectorDefinition, TransformationDefinition, PipelineDefinition)
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Placed(Generic[D]):
    """A definition with its place among those that were sent."""

    index: int
    definition: D


@dataclass
class Wanted:
    """What can be read of what was sent, and what is wrong with the rest."""

    connectors: list[Placed[ConnectorDefinition]] = field(default_factory=list)
    transformations: list[Placed[TransformationDefinition]] = field(default_factory=list)
    pipelines: list[Placed[PipelineDefinition]] = field(default_factory=list)
    wrong: list[FieldError] = field(default_factory=list)
    unreadable: set[tuple[str, str]] = field(default_factory=set)
    """Kind and name of those: who names one of them cannot be judged."""

    @property
    def connectors_named(self) -> frozenset[str]:
        """By its pipelines, besides those that were sent with them."""
        named = (connectors_named(one.definition) for one in self.pipelines)
        return frozenset[str]().union(*named) - {one.definition.name for one in self.connectors}

    def can_be_judged(self, definition: PipelineDefinition) -> bool:
        """Whether all that it names can be read, as far as it was sent."""
        named = {("connector", name) for name in connectors_named(definition)}
        named |= {("transformation", name) for name in transformations_named(definition)}
        named |= {("pipeline", name) for name in pipelines_named(definition)}
        return not named & self.unreadable


def read(documents: Sequence[Json]) -> Wanted:
    """Each document as what its kind says; nothing is raised, all that is wrong is told."""
    wanted, seen = Wanted(), set[tuple[str, str]]()
    for index, document in enumerate(documents):
        kind = kind_of(document)
        if kind is None:
            message = f"say its kind: {', '.join(KINDS)}"
            wanted.wrong.append(FieldError(f"{place_of(index)}.kind", message, "kind"))
            continue
        name = str(document.get("name"))
        if (kind, name) in seen:
            message = f"another {kind} of this name stands before it"
            wanted.wrong.append(FieldError(f"{place_of(index)}.name", message, "name-twice"))
            continue
        seen.add((kind, name))
        found = _read(wanted, kind, index, {key: value for key, value in document.items() if key != "kind"})
        if found:
            wanted.wrong += found
            wanted.unreadable.add((kind, name))
    return wanted


def _read(wanted: Wanted, kind: Kind, index: int, document: Json) -> Sequence[FieldError]:
    raw = orjson.dumps(document)
    try:
        match kind:
            case "connector":
                wanted.connectors.append(Placed(index, _strictly(ConnectorDefinition, raw)))
            case "transformation":
                wanted.transformations.append(Placed(index, _strictly(TransformationDefinition, raw)))
            case "pipeline":
                wanted.pipelines.append(Placed(index, _strictly(PipelineDefinition, raw)))
    except ValidationError as error:
        return field_errors(error, place_of(index))
    return ()


M = TypeVar("M", bound=BaseModel)


def _strictly(model: type[M], raw: bytes) -> M:
    return model.model_validate_json(raw, strict=True)


def by_names(written: Json, connectors: Mapping[str, str], pipelines: Mapping[str, str]) -> dict[str, Any]:
    """A stored pipeline with what it was saved with (ids, names of then) called as it is called now."""
    renamed = dict(written)
    if "sources" in written:
        renamed["sources"] = {name: _renamed(source, connectors) for name, source in written["sources"].items()}
    if "destinations" in written:
        renamed["destinations"] = [_renamed(destination, connectors) for destination in written["destinations"]]
    if "replicate" in written:
        ends = {end: _renamed(part, connectors) for end, part in written["replicate"].items() if end in ("from", "to")}
        renamed["replicate"] = {**written["replicate"], **ends}
    if "triggers" in written:
        renamed["triggers"] = [_trigger(one, connectors, pipelines) for one in written["triggers"]]
    return renamed


def _trigger(written: Json, connectors: Mapping[str, str], pipelines: Mapping[str, str]) -> Json:
    if "after" in written:
        return {**written, "after": [pipelines.get(name, name) for name in written["after"]]}
    return {**written, "files": _renamed(written["files"], connectors)} if "files" in written else written


def _renamed(part: Json, connectors: Mapping[str, str]) -> dict[str, Any]:
    return {**part, "connector": connectors.get(part["connector"], part["connector"])}
