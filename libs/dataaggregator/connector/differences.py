"""How rows and the stream they go to differ, and what the pipeline's policy makes of it: one judgement for all."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dataaggregator.connector.destination import LoadRequest, SchemaPolicy
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.errors import Conflict, FieldError, Invalid


@dataclass(frozen=True)
class Difference:
    """One difference, in a sentence about the column, with what a policy has to know."""

    told: SchemaDifference
    why: str
    possible: bool = False
    """The stream can be changed for it, and loses nothing."""
    harmless: bool = False
    """Rows can be written as the stream is: a value that it cannot hold is found by itself."""
    held: pa.DataType | None = None
    """What the column holds, where rows without a value in it can be written."""
    code: str = "column-incompatible"
    left_of: SchemaDifference | None = None
    """The change that leaves this difference behind once it is made: who has approved that has approved this."""

    @property
    def column(self) -> str:
        return self.told.field or ""

    @property
    def is_new(self) -> bool:
        return self.told.kind == "added"


@dataclass(frozen=True)
class Judged:
    """The schema in which rows are written, what the stream is to be changed for, and what stays as it is."""

    schema: pa.Schema
    make: tuple[Difference, ...] = ()
    left: tuple[Difference, ...] = ()


class SchemaChangeWaits(Conflict):
    """`schema-change-waits`: nobody has approved these differences yet."""

    def __init__(self, stream: str, found: Sequence[Difference]) -> None:
        named = "; ".join(f"{one.column}: {one.why}" for one in found)
        super().__init__(
            "schema-change-waits",
            f"The rows differ from {stream}, which waits for somebody to approve it: {named}.",
        )
        self.differences = tuple(one.told for one in found)


def judge(load: LoadRequest, schema: pa.Schema, found: Sequence[Difference]) -> Judged:
    """Raises Invalid, naming every column at once: `schema-frozen`, or a code of the difference; SchemaChangeWaits."""
    if found and load.schema_policy is SchemaPolicy.FREEZE:
        raise _refused(f"{load.stream} is frozen, and the rows differ from it", found, "schema-frozen")
    if unbearable := [one for one in found if not _bearable(load.schema_policy, one)]:
        raise _refused(f"The rows do not fit {load.stream}", unbearable)
    waiting = [one for one in found if {one.told, one.left_of}.isdisjoint(load.approved)]
    if waiting and load.schema_policy is SchemaPolicy.PAUSE:
        raise SchemaChangeWaits(load.stream, waiting)
    if load.schema_policy in (SchemaPolicy.EVOLVE, SchemaPolicy.PAUSE):
        made = tuple(one for one in found if one.possible)
        return Judged(schema, made, tuple(one for one in found if not one.possible))
    return Judged(_kept(load, schema, found), (), tuple(found))


def _bearable(policy: SchemaPolicy, one: Difference) -> bool:
    match policy:
        case SchemaPolicy.DISCARD_COLUMN:
            return one.harmless or one.is_new
        case SchemaPolicy.DISCARD_ROW:
            return one.harmless or one.is_new or one.held is not None
        case _:
            return one.harmless or one.possible


def _refused(said: str, found: Sequence[Difference], code: str | None = None) -> Invalid:
    errors = [FieldError(one.column, one.why, code or one.code) for one in found]
    named = "; ".join(f"{error.field}: {error.message}" for error in errors)
    return Invalid(errors[0].code, f"{said}: {named}.", errors=errors)


def _kept(load: LoadRequest, schema: pa.Schema, found: Sequence[Difference]) -> pa.Schema:
    """Without the columns that the stream has not; those that do not fit as the type it holds."""
    differing = {one.column: one for one in found}
    fields = []
    for field in schema:
        one = differing.get(field.name)
        if one is None or (one.harmless and not one.is_new):
            fields.append(field)
        elif not one.is_new:
            fields.append(pa.field(field.name, one.held))
    if not fields:
        raise Invalid("column-missing", f"{load.stream} has none of the columns that the rows have.")
    return pa.schema(fields)
