"""The graph of a pipeline: every name known, no cycle, nothing unused, no new rows where the whole is needed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from dataaggregator.contracts.parameters import USE
from dataaggregator.contracts.pipeline import (
    DestinationDefinition,
    PipelineDefinition,
    ResolvedDestination,
    ResolvedPipeline,
)
from dataaggregator.contracts.steps import DropStep, RenameStep, SelectStep, Step
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.compile.chunks import CODE, chunks_impossible, step_impossible
from dataaggregator.dataplane.compile.incremental import CODES, NewRows
from dataaggregator.dataplane.compile.parameters import bind, no_parameter
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, Road, SourceNode, TransformNode
from dataaggregator.dataplane.compile.replicate import wrong_modes
from dataaggregator.dataplane.compile.steps import Parameters, StepChecker
from dataaggregator.errors import FieldError, Invalid

Saved = Mapping[str, TransformationDefinition]

_QUOTED = re.compile(rf"(?P<quote>['\"])\s*(?P<use>{USE.pattern})\s*(?P=quote)")


@dataclass(frozen=True, slots=True)
class _Placed:
    """A transformation, where it stands, and its inputs once they are known."""

    definition: TransformationDefinition
    path: str
    inputs: tuple[str, ...]


def compile_pipeline(definition: PipelineDefinition | ResolvedPipeline, saved: Saved | None = None) -> Plan:
    """The plan of a definition; `saved` are the transformations it may use by name. A whole schema has none before it
    is known which streams it has: each of them has one of its own.

    Raises Invalid naming every wrong field: `definition-invalid`, or the code of its own that new rows where the whole
    is needed have (`incremental-set-step` for one), when that is all that is wrong.
    """
    if definition.replicate is not None:
        _raise(list(wrong_modes(definition.replicate)))
        return Plan((), (), ())
    compiler = _Compiler(definition, saved or {})
    plan = compiler.plan()
    _raise(compiler.errors)
    return plan


def compile_transformation(definition: TransformationDefinition) -> TransformNode:
    """A transformation by itself, as it is saved or tried; without `inputs` it takes one, named `input`."""
    checker = StepChecker(definition.inputs, None)
    _check_steps(checker, definition.steps, "")
    unused = sorted(set((definition.inputs or ())[1:]) - checker.used)
    errors = [*checker.errors, *(_unused("inputs", name) for name in unused)]
    _raise(errors)
    inputs = definition.inputs or ("input",)
    return TransformNode(definition.name, inputs, definition.steps, _road(definition.steps))


def _raise(errors: Sequence[FieldError]) -> None:
    if not errors:
        return
    codes = {error.code for error in errors}
    code = next(iter(codes)) if len(codes) == 1 and codes <= CODES | {CODE} else "definition-invalid"
    told = f"{errors[0].field}: {errors[0].message}" if len(errors) == 1 else f"{len(errors)} fields are wrong"
    raise Invalid(code, told, errors=errors)


def _unused(field: str, name: str) -> FieldError:
    return FieldError(field, f"{name} is read by nothing; leave it out, or use it", "unused")


def needs_sandbox(steps: Iterable[Step]) -> bool:
    """Whether one of them needs an engine; fields are chosen and named without one."""
    return not all(isinstance(step, SelectStep | DropStep | RenameStep) for step in steps)


def _road(steps: Sequence[Step]) -> Road:
    return "sandbox" if needs_sandbox(steps) else "passthrough"


def _check_steps(checker: StepChecker, steps: Sequence[Step], prefix: str) -> None:
    names: set[str] = set()
    for at, step in enumerate(steps):
        path = f"{prefix}steps[{at}]"
        checker.check(step, path)
        if step.name is not None and step.name in names:
            checker.errors.append(FieldError(f"{path}.name", f"there is another step {step.name}", "twice"))
        names.add(step.name or "")


class _Compiler:
    def __init__(self, definition: PipelineDefinition | ResolvedPipeline, saved: Saved) -> None:
        self._definition = definition
        self._saved = saved
        self.errors: list[FieldError] = []

    def plan(self) -> Plan:
        """The plan, worth something only when no error was found."""
        placed = self._placed()
        destinations = self._destinations(placed)
        self._names_once(placed)
        self._known(placed, destinations)
        self._parameters()
        for one in placed:
            self._steps(one)
        order = self._order(placed)
        self._unused(placed, destinations)
        self._new_rows(order, destinations)
        self._chunks(order)
        sources = tuple(SourceNode(name) for name in self._definition.sources)
        transforms = tuple(
            TransformNode(p.definition.name, p.inputs, p.definition.steps, _road(p.definition.steps), p.path)
            for p in order
        )
        return Plan(sources, transforms, destinations)

    def _wrong(self, field: str, message: str, code: str) -> None:
        self.errors.append(FieldError(field, message, code))

    def _placed(self) -> list[_Placed]:
        """Every transformation with its inputs; without any it takes the one before, the first the only source."""
        placed: list[_Placed] = []
        before = self._only_source()
        for at, use in enumerate(self._definition.transformations):
            path = f"transformations[{at}]"
            definition = self._saved.get(use) if isinstance(use, str) else use
            if definition is None:
                self._wrong(path, f"there is no transformation {use}", "unknown-name")
                before = str(use)
                continue
            inputs = definition.inputs or ((before,) if before else ())
            if not inputs:
                self._wrong(f"{path}.inputs", "there are several sources: name the inputs", "missing-field")
            placed.append(_Placed(definition, path, inputs))
            before = definition.name
        return placed

    def _only_source(self) -> str | None:
        names = list(self._definition.sources)
        return names[0] if len(names) == 1 else None

    def _destinations(self, placed: Sequence[_Placed]) -> tuple[DestinationNode, ...]:
        last = placed[-1].definition.name if placed else self._only_source()
        found = []
        inputs = [destination.input for destination in self._definition.destinations]
        for at, given in enumerate(inputs):
            name = given or last
            if name is None:
                self._wrong(f"destinations[{at}].input", "there are several sources: name the input", "missing-field")
            else:
                found.append(DestinationNode(at, name))
        self._streams_once()
        return tuple(found)

    def _streams_once(self) -> None:
        """Two loads of one run into one stream would wait for each other's fence."""
        given: Sequence[DestinationDefinition | ResolvedDestination] = self._definition.destinations
        seen: set[tuple[object, str]] = set()
        for at, destination in enumerate(given):
            connector = (
                destination.connector if isinstance(destination, DestinationDefinition) else destination.connector_id
            )
            if (connector, destination.stream) in seen:
                message = f"{destination.stream} is loaded by another destination of this pipeline already"
                self._wrong(f"destinations[{at}].stream", message, "twice")
            seen.add((connector, destination.stream))

    def _names_once(self, placed: Sequence[_Placed]) -> None:
        seen = set(self._definition.sources)
        for one in placed:
            if one.definition.name in seen:
                message = f"there is another source or transformation {one.definition.name}"
                self._wrong(f"{one.path}.name", message, "twice")
            seen.add(one.definition.name)

    def _known(self, placed: Sequence[_Placed], destinations: Sequence[DestinationNode]) -> None:
        uses = [use for use in self._definition.transformations if isinstance(use, str)]
        known = {*self._definition.sources, *(one.definition.name for one in placed), *uses}
        listed = ", ".join(sorted(known))
        for one in placed:
            for at, name in enumerate(one.inputs):
                if name not in known:
                    message = f"there is no source or transformation {name}; there are: {listed}"
                    self._wrong(f"{one.path}.inputs[{at}]", message, "unknown-name")
        for node in destinations:
            if node.input not in known:
                message = f"there is no source or transformation {node.input}; there are: {listed}"
                self._wrong(f"destinations[{node.index}].input", message, "unknown-name")

    def _parameters(self) -> None:
        """What streams and queries use is there, and stands where a value can."""
        parameters, given = self._definition.parameters, self._definition.sources.items()
        texts = [(f"sources.{name}.{part}", getattr(one, part)) for name, one in given for part in ("stream", "query")]
        texts += [(f"destinations[{at}].stream", one.stream) for at, one in enumerate(self._definition.destinations)]
        for field, text in texts:
            for name in bind(text or "").names:
                if name not in parameters:
                    self._wrong(field, no_parameter(name, parameters), "unknown-name")
            if field.endswith(".query") and (quoted := _QUOTED.search(text or "")):
                message = f"a parameter is bound as a value: write {quoted['use']} without quotes"
                self._wrong(field, message, "expression")

    def _steps(self, one: _Placed) -> None:
        parameters: Parameters = self._definition.parameters
        checker = StepChecker(one.inputs or None, parameters)
        _check_steps(checker, one.definition.steps, f"{one.path}.")
        self.errors += checker.errors
        for at, name in enumerate(one.inputs):
            if at and name not in checker.used:
                self.errors.append(_unused(f"{one.path}.inputs[{at}]", name))

    def _order(self, placed: Sequence[_Placed]) -> list[_Placed]:
        by_name = {one.definition.name: one for one in placed}
        graph = {name: [i for i in one.inputs if i in by_name] for name, one in by_name.items()}
        try:
            return [by_name[name] for name in TopologicalSorter(graph).static_order()]
        except CycleError as error:
            ring = error.args[1]
            path = by_name[ring[0]].path
            self._wrong(f"{path}.inputs", f"these take rows from each other: {' -> '.join(ring)}", "cycle")
            return list(placed)

    def _unused(self, placed: Sequence[_Placed], destinations: Sequence[DestinationNode]) -> None:
        used = {name for one in placed for name in one.inputs} | {node.input for node in destinations}
        for name in self._definition.sources:
            if name not in used:
                self.errors.append(_unused(f"sources.{name}", name))
        for one in placed:
            if one.definition.name not in used:
                self.errors.append(_unused(one.path, one.definition.name))

    def _new_rows(self, order: Sequence[_Placed], destinations: Sequence[DestinationNode]) -> None:
        rows = NewRows(self._definition)
        for one in order:
            self.errors += rows.through(one.definition.name, one.inputs, one.definition.steps, one.path)
        self.errors += rows.into(destinations)

    def _chunks(self, order: Sequence[_Placed]) -> None:
        self.errors += chunks_impossible(self._definition)
        if any(one.chunk_rows is not None for one in self._definition.destinations):
            for one in order:
                for at, step in enumerate(one.definition.steps):
                    self.errors += step_impossible(step, f"{one.path}.steps[{at}]")
