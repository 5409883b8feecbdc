"""What a checked definition becomes: nodes in the order in which rows reach them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from dataaggregator.contracts.steps import Step

Road = Literal["passthrough", "sandbox"]


@dataclass(frozen=True, slots=True)
class SourceNode:
    """A source, by its name in the definition.

    Where the definition keeps what was read, a source stands for two nodes, its new rows and its kept ones: `of` is
    then its name, and `kept` says which of the two it is.
    """

    name: str
    of: str = ""
    kept: bool = False

    @property
    def source(self) -> str:
        """The name in the definition."""
        return self.of or self.name

    @property
    def kind(self) -> str:
        """That of its stage in the ledger."""
        return "kept" if self.kept else "source"


@dataclass(frozen=True, slots=True)
class TransformNode:
    """One transformation: its first input is the flow its steps change, the others are read whole.

    `road` is passthrough when no step needs an engine (select, drop and rename only), so that the trusted process
    can do them. `path` is where it stands in the definition (`transformations[0]`), for errors. With a `keep` of
    fields it has no steps: the rows of its first input take the place of those of its second with the same values in
    these fields, or take them away where `delete_when` says so. `first` is the place in the definition of the first of
    `steps`, where the ones before are left out.
    """

    name: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    road: Road = "sandbox"
    path: str = ""
    keep: tuple[str, ...] = ()
    first: int = 0
    delete_when: str | None = None

    @property
    def stages(self) -> tuple[tuple[str, str], ...]:
        """What is at work here in order, each by its name and kind."""
        if self.keep:
            return ((f"{self.name}.keep", "keep"),)
        return tuple((self.stage(at), step.kind) for at, step in enumerate(self.steps))

    def stage(self, index: int) -> str:
        """The name of one step at work: its own name, or its place and kind (`clean-flights[1].filter`)."""
        step = self.steps[index]
        return f"{self.name}.{step.name}" if step.name else f"{self.name}[{index + self.first}].{step.kind}"


@dataclass(frozen=True, slots=True)
class DestinationNode:
    """A destination, by its place in the definition, and the node whose rows it takes."""

    index: int
    input: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Sources, transformations in topological order, destinations; everything names exist for."""

    sources: tuple[SourceNode, ...]
    transforms: tuple[TransformNode, ...]
    destinations: tuple[DestinationNode, ...]

    def towards(self, nodes: Collection[str]) -> "Plan":
        """What is needed for the rows of these nodes, and no more."""
        reached = self.upstream(nodes)
        return Plan(
            tuple(source for source in self.sources if source.name in reached),
            tuple(node for node in self.transforms if node.name in reached),
            tuple(node for node in self.destinations if node.input in nodes),
        )

    def upstream(self, nodes: Collection[str]) -> frozenset[str]:
        """These nodes and all whose rows reach them."""
        inputs = self.inputs
        reached: set[str] = set()
        todo = list(nodes)
        while todo:
            name = todo.pop()
            reached.add(name)
            todo += inputs.get(name, ())
        return frozenset(reached)

    @property
    def sandboxed(self) -> bool:
        """Whether a transformation needs an engine; then all of them are done in the sandbox."""
        return any(node.road == "sandbox" for node in self.transforms)

    @property
    def bare(self) -> bool:
        """Whether one source's rows go to one destination as they are, so that they need not be decoded on the way."""
        return len(self.sources) == len(self.destinations) == 1 and not self.transforms

    @property
    def inputs(self) -> Mapping[str, tuple[str, ...]]:
        """For each node that takes rows from others, their names (destinations as `destinations[0]`)."""
        found = {node.name: node.inputs for node in self.transforms}
        return found | {f"destinations[{node.index}]": (node.input,) for node in self.destinations}

    @property
    def sandbox_inputs(self) -> tuple[str, ...]:
        """The sources whose rows have to be pushed into the sandbox."""
        wanted = {name for node in self.transforms for name in node.inputs}
        return tuple(node.name for node in self.sources if node.name in wanted)

    @property
    def sandbox_outputs(self) -> tuple[str, ...]:
        """The transformations whose rows come out of the sandbox: destinations take them, or they are kept."""
        wanted = {node.input for node in self.destinations}
        return tuple(node.name for node in self.transforms if node.keep or node.name in wanted)
