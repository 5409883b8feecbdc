"""Field names against the schema that reaches a step: unknown, doubled, and what would have been right."""

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

import pyarrow as pa

from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.engine import Place


def known(names: Iterable[str], schema: pa.Schema, place: Place) -> None:
    """Raise Invalid for the first name the rows do not have."""
    for name in names:
        if name not in schema.names:
            close = get_close_matches(name, schema.names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(schema.names)}"
            raise place.invalid("definition-invalid", f"there is no field {name} here; {hint}")


def distinct(names: Iterable[str], place: Place) -> None:
    """Raise Invalid when two fields would have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise place.invalid("definition-invalid", f"two fields would be named {twice[0]}")


def exact(names: Iterable[str], schema: pa.Schema, place: Place) -> None:
    """Raise Invalid for a field the engine would change, where the engine has to take it."""
    for name in names:
        field = schema.field(position(schema, name))
        if not types.taken(field.type):
            raise place.invalid("type-unsupported", types.cure(field))


def position(schema: pa.Schema, name: str) -> int:
    """Where a known field stands."""
    return int(schema.names.index(name))


def one_name_each(schema: pa.Schema, place: Place) -> None:
    """Raise Invalid for fields the engine could not tell apart: its names know no case, and end at a NUL."""
    seen: dict[str, str] = {}
    for name in schema.names:
        if "\0" in name:
            message = f"the name of the field {name!r} has a NUL in it; rename it, or drop the field before this step"
            raise place.invalid("definition-invalid", message)
        other = seen.setdefault(name.casefold(), name)
        if other != name or schema.names.count(name) > 1:
            message = f"the fields {other} and {name} have the same name but for upper and lower case; rename one"
            raise place.invalid("definition-invalid", message)


def free(names: Iterable[str], wish: str) -> str:
    """A name for a column of ours that none of these is, whatever their case."""
    taken = {name.casefold() for name in names}
    while wish in taken:
        wish += "_"
    return wish
