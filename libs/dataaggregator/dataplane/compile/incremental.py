"""What new rows alone must never do: stand for the whole in a set-wise step, replace a table, or be appended twice."""

from collections.abc import Iterator, Sequence

from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.plan import DestinationNode
from dataaggregator.errors import FieldError

#: Errors that have an entry of their own in the catalogue, when nothing else is wrong.
CODES = frozenset({"incremental-set-step", "incremental-replace", "lateness-append"})


class NewRows:
    """Follows the rows of incremental sources through the transformations, in the order in which these are given."""

    def __init__(self, definition: PipelineDefinition | ResolvedPipeline) -> None:
        self._definition = definition
        self._from: dict[str, str] = {
            name: name for name, source in definition.sources.items() if source.read == "incremental"
        }
        """By node, one of the incremental sources whose rows it gives."""

    def through(self, name: str, inputs: Sequence[str], steps: Sequence[Step], path: str) -> Iterator[FieldError]:
        """A set-wise step over new rows would see only these, and overwrite totals."""
        source = next((self._from[one] for one in inputs if one in self._from), None)
        if source is None:
            return
        self._from[name] = source
        for at, step in enumerate(steps):
            if step.set_wise:
                message = (
                    f"{step.kind} needs all rows, but {source} is read incrementally: it would see only the "
                    "new ones and overwrite totals; read it with full_refresh, or do without this step"
                )
                yield FieldError(f"{path}.steps[{at}].{step.kind}", message, "incremental-set-step")
                break

    def into(self, destinations: Sequence[DestinationNode]) -> Iterator[FieldError]:
        """New rows replace no table, and rows that are read again are not appended."""
        for node in destinations:
            source = self._from.get(node.input)
            write = self._definition.destinations[node.index].write
            if source is None:
                continue
            if write == "replace":
                message = (
                    f"replace would leave nothing but the new rows of {source}, which is read incrementally; "
                    "write with merge or append, or read it with full_refresh"
                )
                yield FieldError(f"destinations[{node.index}].write", message, "incremental-replace")
            elif write == "append" and self._definition.sources[source].lateness is not None:
                message = (
                    f"{source} reads the rows of its lateness again: appended, they would be there twice; "
                    "write with merge and a key, or do without lateness"
                )
                yield FieldError(f"destinations[{node.index}].write", message, "lateness-append")
