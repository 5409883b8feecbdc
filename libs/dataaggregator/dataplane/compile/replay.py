"""Rejected rows come in again where they were rejected; a definition in which they would not come right is refused."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from dataaggregator.contracts.pipeline import (
    ResolvedDestination,
    ResolvedPipeline,
    ResolvedSource,
    ResolvedTransformation,
)
from dataaggregator.contracts.steps import ExplodeStep, JoinStep, MaskStep, Step, ValidateStep
from dataaggregator.dataplane.compile.plan import Plan, TransformNode
from dataaggregator.errors import Conflict

NOBODY = UUID(int=0)
"""The connector of what stands for the rejected rows: none is asked for them."""


@dataclass(frozen=True)
class Entry:
    """Where rejected rows come in again: a transformation, and which of its steps they meet first."""

    transformation: str
    first: int


BEHIND_ALL = Entry("", 0)
"""At the destination that rejected the rows; no transformation is without a name."""


@dataclass(frozen=True)
class Replayed:
    """What is left of a pipeline when the rows that a step or a destination rejected are its source."""

    definition: ResolvedPipeline
    source: str
    entry: Entry


def entry_of(definition: ResolvedPipeline, stages: Collection[str]) -> Entry:
    """For rows these stages rejected: the start of their transformation, or behind the last step that made new rows
    before them. Raises Conflict when they come in at several places."""
    found = {entry for entry in _entries(definition) if entry[0] in stages}
    if missing := set(stages) - {stage for stage, _ in found}:
        raise Conflict("replay-step-changed", f"{', '.join(sorted(missing))} is no step of the pipeline.")
    entries = {entry for _, entry in found}
    if len(entries) > 1:
        detail = f"These rows come in again at several places: choose one stage of {', '.join(sorted(stages))}."
        raise Conflict("replay-several-entries", detail)
    return entries.pop()


def _entries(definition: ResolvedPipeline) -> Iterator[tuple[str, Entry]]:
    for one in definition.transformations:
        node, first = TransformNode(one.name, one.inputs, one.steps), 0
        for at, step in enumerate(one.steps):
            yield node.stage(at), Entry(one.name, first)
            if step.set_wise or isinstance(step, ExplodeStep | MaskStep):
                first = at + 1


def replayed(before: ResolvedPipeline, after: ResolvedPipeline, entry: Entry, takers: Collection[int]) -> Replayed:
    """`after`, to be run on rows that `before` rejected, for those of its destinations (by place) they can reach.

    Raises Conflict with a code for each way in which what arrives would not be what had arrived without the rejection.
    """
    start = _start(before, after, entry)
    flow = _Flow(after, entry.transformation, start)
    destinations = tuple(
        one.model_copy(update={"chunk_rows": None})
        for at, one in enumerate(after.destinations)
        if at in takers and one.input in flow.reached
    )
    if not destinations:
        raise Conflict("replay-nowhere", "No destination that has rows of that run is behind the step.")
    needed = flow.needed({one.input for one in destinations})
    _must_come_right(flow, needed, destinations)
    source = _free_name(after)
    transformations = tuple(
        _from(one, start, source) if one.name == entry.transformation else one
        for one in after.transformations
        if one.name in needed
    )
    sources = {name: _whole(one) for name, one in after.sources.items() if name in needed}
    changes = {
        "sources": {source: _stand_in(), **sources},
        "transformations": transformations,
        "destinations": destinations,
        "on_rejected": None,
    }
    return Replayed(after.model_copy(update=changes), source, entry)


def replayed_at(before: ResolvedPipeline, after: ResolvedPipeline, places: tuple[int, int]) -> Replayed:
    """`after`, to be run on rows that a destination rejected: `places` are its own in both definitions.

    They have come to it already, so that nothing before it may be another than it was. Raises Conflict.
    """
    old, new = before.destinations[places[0]], after.destinations[places[1]]
    if before.transformations != after.transformations or old.input != new.input:
        detail = f"The rows have been changed for {new.stream} as the pipeline did it then, and it does otherwise now."
        raise Conflict("replay-step-changed", detail)
    _must_not_replace([new])
    source = _free_name(after)
    changes = {
        "sources": {source: _stand_in()},
        "transformations": (),
        "destinations": (new.model_copy(update={"input": source, "chunk_rows": None}),),
        "on_rejected": None,
    }
    return Replayed(after.model_copy(update=changes), source, BEHIND_ALL)


def renumbered(plan: Plan, entry: Entry) -> Plan:
    """The steps are called as in the whole definition."""
    transforms = tuple(
        replace(node, first=entry.first) if node.name == entry.transformation else node for node in plan.transforms
    )
    return replace(plan, transforms=transforms)


def _start(before: ResolvedPipeline, after: ResolvedPipeline, entry: Entry) -> tuple[Step, ...]:
    """The steps the rows meet; what they have behind them must be the same in both."""
    old, new = (
        next((one for one in definition.transformations if one.name == entry.transformation), None)
        for definition in (before, after)
    )
    if old is None or new is None:
        raise Conflict("replay-step-changed", f"The pipeline has no transformation {entry.transformation} any more.")
    same = old.inputs[0] == new.inputs[0] and old.steps[: entry.first] == new.steps[: entry.first]
    if not same or len(new.steps) <= entry.first:
        detail = f"What stands before these rows in {entry.transformation} is not what it was when they were rejected."
        raise Conflict("replay-step-changed", detail)
    return new.steps[entry.first :]


class _Flow:
    """The transformations that the rows pass, each with the steps they meet there."""

    def __init__(self, definition: ResolvedPipeline, name: str, start: tuple[Step, ...]) -> None:
        self._inputs = {one.name: one.inputs for one in definition.transformations}
        self._inputs[name] = _others(self._inputs[name], start)
        self.reached: dict[str, tuple[Step, ...]] = {name: start}
        self.beside: dict[str, str] = {}
        for one in definition.transformations:  # they stand in the order in which rows reach them
            taken = [at for at, node in enumerate(one.inputs) if node in self.reached]
            if taken and one.name != name:
                self.reached[one.name] = one.steps
            if any(taken) and one.name != name:
                self.beside[one.name] = one.inputs[max(taken)]

    def needed(self, nodes: Collection[str]) -> frozenset[str]:
        """These nodes and all whose rows reach them."""
        found: set[str] = set()
        todo = list(nodes)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self._inputs.get(name, ())
        return frozenset(found)


def _must_come_right(flow: _Flow, needed: frozenset[str], destinations: Sequence[ResolvedDestination]) -> None:
    for name, steps in flow.reached.items():
        if name not in needed:
            continue
        if name in flow.beside:
            detail = f"{name} reads {flow.beside[name]} beside other rows, which would need all of its rows."
            raise Conflict("replay-set-step", detail)
        for at, step in enumerate(steps):
            if why := _needs_all(step):
                raise Conflict("replay-set-step", f"{name}, step {at}: {why}.")
    _must_not_replace(destinations)


def _must_not_replace(destinations: Sequence[ResolvedDestination]) -> None:
    if replaced := [one.stream for one in destinations if one.write == "replace"]:
        detail = f"{', '.join(replaced)} is written with replace: nothing but the replayed rows would be left."
        raise Conflict("replay-replace", detail)


def _needs_all(step: Step) -> str | None:
    """Why a step does not come right with some of the rows only."""
    match step:
        case JoinStep():
            if step.join.how == "full":
                return "a full join gives every row of the other input again"
            if step.join.expect in ("one_to_one", "one_to_many"):
                return f"expect: {step.join.expect} is about all rows of a run"
            return None
        case ValidateStep():
            unique = any(rule.check.unique for rule in step.rules)
            return "a check that rows are unique is about all rows of a run" if unique else None
    return f"{step.kind} needs all rows of a run" if step.set_wise else None


def _from(one: ResolvedTransformation, steps: tuple[Step, ...], source: str) -> ResolvedTransformation:
    return one.model_copy(update={"inputs": (source, *_others(one.inputs, steps)), "steps": steps})


def _others(inputs: Sequence[str], steps: Sequence[Step]) -> tuple[str, ...]:
    """The inputs beside the first that these steps read."""
    joined = {step.join.with_ for step in steps if isinstance(step, JoinStep)}
    return tuple(name for name in inputs[1:] if name in joined)


def _whole(source: ResolvedSource) -> ResolvedSource:
    """What is joined is read whole, and where reading goes on stays where it is."""
    whole = {"read": "full_refresh", "cursor_field": None, "lateness": None, "keep": None, "delete_when": None}
    return source.model_copy(update=whole)


def _stand_in() -> ResolvedSource:
    return ResolvedSource(
        stream="rejected rows", connector_id=NOBODY, connector_name="quarantine", connector_type="quarantine"
    )


def _free_name(definition: ResolvedPipeline) -> str:
    taken = {*definition.sources, *(one.name for one in definition.transformations)}
    name = "rejected-rows"
    while name in taken:
        name += "-"
    return name
