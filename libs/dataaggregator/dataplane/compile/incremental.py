"""What incremental reads must never do: stand for the whole in a set-wise step, replace a table, be appended twice."""

from collections.abc import Iterator, Sequence

from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.plan import DestinationNode
from dataaggregator.errors import FieldError

#: Errors that have an entry of their own in the catalogue, when nothing else is wrong.
CODES = frozenset(
    {"incremental-set-step", "incremental-replace", "lateness-append", "keep-append", "keep-delete-merge"}
)


class NewRows:
    """Follows the rows of incremental sources through the transformations, in the order in which these are given.

    A source that is kept gives all its rows in every run, so they are whole, but none of them may be appended.
    """

    def __init__(self, definition: PipelineDefinition | ResolvedPipeline) -> None:
        self._definition = definition
        incremental = {name: one.keep for name, one in definition.sources.items() if one.read == "incremental"}
        self._new: dict[str, str] = {name: name for name, keep in incremental.items() if keep is None}
        """By node, one of the incremental sources whose rows it gives."""
        self._kept: dict[str, str] = {name: name for name, keep in incremental.items() if keep is not None}
        """By node, one of the kept sources whose rows it gives."""

    def through(self, name: str, inputs: Sequence[str], steps: Sequence[Step], path: str) -> Iterator[FieldError]:
        """A set-wise step over new rows would see only these, and overwrite totals."""
        for found in (self._new, self._kept):
            if origin := next((found[one] for one in inputs if one in found), None):
                found[name] = origin
        whole_needed = next((at for at, step in enumerate(steps) if step.set_wise), None)
        if name in self._new and whole_needed is not None:
            kind = steps[whole_needed].kind
            message = (
                f"{kind} needs all rows, but {self._new[name]} is read incrementally: it would see only the new ones "
                "and overwrite totals; give that source keep: full and a primary_key, or read it with full_refresh"
            )
            yield FieldError(f"{path}.steps[{whole_needed}].{kind}", message, "incremental-set-step")

    def into(self, destinations: Sequence[DestinationNode]) -> Iterator[FieldError]:
        """New rows replace no table, and rows that come again are not appended."""
        for node in destinations:
            write = self._definition.destinations[node.index].write
            field = f"destinations[{node.index}].write"
            new, kept = self._new.get(node.input), self._kept.get(node.input)
            if write == "replace" and new is not None:
                message = (
                    f"replace would leave nothing but the new rows of {new}, which is read incrementally; "
                    "write with merge or append, give it keep: full, or read it with full_refresh"
                )
                yield FieldError(field, message, "incremental-replace")
            elif write == "append" and new is not None and self._definition.sources[new].lateness is not None:
                message = (
                    f"{new} reads the rows of its lateness again: appended, they would be there twice; "
                    "write with merge and a key, or do without lateness"
                )
                yield FieldError(field, message, "lateness-append")
            elif write == "append" and kept is not None:
                message = (
                    f"{kept} is kept, so that all its rows come with every run: appended, they would be there as often;"
                    " write with replace, or with merge and a key"
                )
                yield FieldError(field, message, "keep-append")
            elif write == "merge" and kept is not None and self._definition.sources[kept].delete_when is not None:
                message = (
                    f"what {kept} deletes is among its kept rows no more, so that a merge never hears of it and leaves "
                    "such rows there; write with replace, or give delete_when to the destination instead"
                )
                yield FieldError(field, message, "keep-delete-merge")
