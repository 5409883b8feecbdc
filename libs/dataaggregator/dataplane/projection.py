"""Select, drop and rename without an engine: what the straight road does to a batch."""

from collections.abc import Sequence

import pyarrow as pa

from dataaggregator.contracts.steps import DropStep, RenameStep, SelectStep, Step
from dataaggregator.dataplane.compile.plan import TransformNode
from dataaggregator.errors import FieldError, Invalid


class Projection:
    """Which columns of the input leave, under which names; made once for a schema."""

    def __init__(self, node: TransformNode, schema: pa.Schema) -> None:
        kept = [(name, name) for name in schema.names]
        for at, step in enumerate(node.steps):
            kept = _after(step, kept, f"{node.name}: steps[{at}]")
        self._columns = [schema.get_field_index(before) for before, _ in kept]
        fields = [schema.field(index).with_name(name) for index, (_, name) in zip(self._columns, kept, strict=True)]
        self.schema = pa.schema(fields)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._columns:
            return batch.select([])
        return pa.RecordBatch.from_arrays([batch.column(index) for index in self._columns], schema=self.schema)


def _after(step: Step, kept: Sequence[tuple[str, str]], field: str) -> list[tuple[str, str]]:
    here = {name: before for before, name in kept}
    match step:
        case SelectStep():
            _known(step.select, here, f"{field}.select")
            return _once([(here[name], name) for name in step.select], f"{field}.select")
        case DropStep():
            _known(step.drop, here, f"{field}.drop")
            return [(before, name) for before, name in kept if name not in step.drop]
        case RenameStep():
            _known(step.rename, here, f"{field}.rename")
            return _once([(before, step.rename.get(name, name)) for before, name in kept], f"{field}.rename")
    raise TypeError(f"a step of kind {step.kind} needs the sandbox")


def _once(kept: list[tuple[str, str]], field: str) -> list[tuple[str, str]]:
    """Of two fields with one name a reader of the rows would see only the last."""
    names = [name for _, name in kept]
    if twice := [name for name in names if names.count(name) > 1]:
        message = f"two fields would be named {twice[0]}"
        raise Invalid("definition-invalid", f"{field}: {message}.", errors=[FieldError(field, message, "twice")])
    return kept


def _known(names: Sequence[str] | dict[str, str], here: dict[str, str], field: str) -> None:
    missing = [name for name in names if name not in here]
    if missing:
        message = f"there is no field {', '.join(missing)}; there are {', '.join(here)}"
        raise Invalid(
            "definition-invalid", f"{field}: {message}.", errors=[FieldError(field, message, "field-unknown")]
        )
