"""Contracts: the steps of a transformation; a step is an object with exactly one kind and, if wished, a name."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Expression, FieldName, Many, Name, Sent, Some
from dataaggregator.contracts.variants import choose, exactly_one, mark

OnError = Literal["reject", "null", "fail"]
OnFail = Literal["reject", "fail", "warn"]
How = Literal["inner", "left", "full", "anti"]
Expect = Literal["one_to_one", "many_to_one", "one_to_many", "any"]
Keep = Literal["first", "last"]
Masking = Literal["hash", "redact", "partial"]
Names = Some[FieldName]


class _Step(Sent):
    """What every kind of step has."""

    kind: ClassVar[str]
    set_wise: ClassVar[bool] = False
    name: Name | None = None


class SelectStep(_Step):
    """Keep these fields, in this order."""

    kind: ClassVar[str] = "select"
    select: Names


class DropStep(_Step):
    """Leave these fields out."""

    kind: ClassVar[str] = "drop"
    drop: Names


class RenameStep(_Step):
    """Give fields new names: old name to new name."""

    kind: ClassVar[str] = "rename"
    rename: Annotated[dict[FieldName, FieldName], Field(min_length=1)]


class Cast(Sent):
    """The new type of one field, and what happens to a value that does not fit."""

    type: Annotated[str, Field(min_length=1, max_length=200)]
    on_error: OnError = "reject"


def _cast(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class CastStep(_Step):
    """Change the types of fields."""

    kind: ClassVar[str] = "cast"
    cast: Annotated[
        dict[FieldName, Annotated[Cast, BeforeValidator(_cast, json_schema_input_type=str | Cast)]],
        Field(min_length=1),
    ]


class DeriveStep(_Step):
    """Set fields to the value of a SQL expression over the row."""

    kind: ClassVar[str] = "derive"
    derive: Annotated[dict[FieldName, Expression], Field(min_length=1)]


class FilterStep(_Step):
    """Let pass the rows for which a SQL condition is true."""

    kind: ClassVar[str] = "filter"
    filter: Expression


class InCheck(Sent):
    """The field's value is one of these."""

    field: FieldName
    values: Some[str | int | float | bool]


class RangeCheck(Sent):
    """The field's value lies between these, both included."""

    field: FieldName
    min: int | float | str | None = None
    max: int | float | str | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> "RangeCheck":
        if self.min is None and self.max is None:
            raise PydanticCustomError("range", "a range needs min, max or both")
        return self


class RegexCheck(Sent):
    """The whole of the field's value matches this pattern."""

    field: FieldName
    pattern: Annotated[str, Field(min_length=1, max_length=10_000)]


def _fields(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


CheckedFields = Annotated[Names, BeforeValidator(_fields, json_schema_input_type=str | Names)]


class Check(Sent):
    """What a rule asks of a row: exactly one of these. A bare string is the `sql` condition."""

    sql: Expression | None = None
    not_null: CheckedFields | None = None
    unique: CheckedFields | None = None
    in_: InCheck | None = Field(default=None, alias="in")
    range: RangeCheck | None = None
    regex: RegexCheck | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Check":
        if sum(value is not None for value in dict(self).values()) != 1:
            raise PydanticCustomError(
                "check", "a check is a SQL condition or exactly one of: not_null, unique, in, range, regex"
            )
        return self


def _check(value: Any) -> Any:
    return {"sql": value} if isinstance(value, str) else value


class Rule(Sent):
    """A named check, and what happens to a row that does not pass it."""

    rule: Name
    check: Annotated[Check, BeforeValidator(_check, json_schema_input_type=str | Check)]
    on_fail: OnFail = "reject"


class ValidateStep(_Step):
    """Hold each row against rules; `rules` is written `validate` on the wire."""

    kind: ClassVar[str] = "validate"
    rules: Some[Rule] = Field(alias="validate")

    @model_validator(mode="after")
    def _names_once(self) -> "ValidateStep":
        names = [rule.rule for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PydanticCustomError("rule", f"each rule has a name of its own; twice here: {', '.join(twice)}")
        return self


_DIRECTION = re.compile(r"(.+?)\s+(asc|desc)\s*", re.IGNORECASE | re.DOTALL)


def direction(word: str) -> tuple[str, bool]:
    """The field of an `order_by`, and whether it goes down: `at`, `at asc`, `at desc`."""
    match = _DIRECTION.fullmatch(word)
    return (match[1], match[2].lower() == "desc") if match else (word, False)


class Dedupe(Sent):
    """Of the rows with equal values in all fields of the key, one is kept: the first or the last of them.

    Values are equal as in GROUP BY: exactly, and a NULL equals a NULL. The order is that of `order_by`: names of
    fields, each with ` desc` behind it if it goes down. A NULL there loses against every value. What it does not tell
    apart, and all rows without it, stand in the order in which they were read.
    """

    key: Names
    keep: Keep = "first"
    order_by: Many[Annotated[str, Field(min_length=1, max_length=260)]] = ()


class DedupeStep(_Step):
    """Keep one row of those with the same key."""

    kind: ClassVar[str] = "dedupe"
    set_wise: ClassVar[bool] = True
    dedupe: Dedupe


class MaskStep(_Step):
    """Make values unreadable; NULL stays NULL and no row is lost.

    hash: 64 hexadecimal digits, made with the workspace's own key: equal values have equal hashes there. redact: ***
    in the place of a text, NULL in a field of another type. partial: *** and the last four characters of a text of at
    least eight, of a shorter one *** alone. What later steps reject shows the masked values only.
    """

    kind: ClassVar[str] = "mask"
    mask: Annotated[dict[FieldName, Masking], Field(min_length=1)]


class Flatten(Sent):
    """A struct whose fields become fields of the row, each with the prefix before its name: `field_` if none is given.

    A NULL struct gives NULLs. The new fields stand where the struct stood.
    """

    field: FieldName
    prefix: Annotated[str, Field(max_length=255)] | None = None


class FlattenStep(_Step):
    """Make the fields of a struct fields of the row."""

    kind: ClassVar[str] = "flatten"
    flatten: Flatten


class Explode(Sent):
    """A list of which each element becomes a row of its own, with the other fields beside it.

    A NULL element gives a row; a list that is empty or NULL gives none and is counted.
    """

    field: FieldName


class ExplodeStep(_Step):
    """Make a row of each element of a list."""

    kind: ClassVar[str] = "explode"
    explode: Explode


class Join(Sent):
    """Another input, brought beside the rows by equal fields."""

    with_: Name = Field(alias="with")
    on: Names
    how: How = "inner"
    expect: Expect = "any"


class JoinStep(_Step):
    """Bring another input beside the rows."""

    kind: ClassVar[str] = "join"
    set_wise: ClassVar[bool] = True
    join: Join


class Aggregate(Sent):
    """Fields to group by (none: one group) and measures: field to aggregate expression."""

    by: Many[FieldName] = ()
    measures: Annotated[dict[FieldName, Expression], Field(min_length=1)]


class AggregateStep(_Step):
    """Bring rows together in groups."""

    kind: ClassVar[str] = "aggregate"
    set_wise: ClassVar[bool] = True
    aggregate: Aggregate


class SqlStep(_Step):
    """A SELECT over the inputs by name. Over one input the ledger proves what became of its rows, where the query can
    carry their numbers, or a count for each group.

    `expect` holds the rows it gives against those of the first input: one_to_one as many, many_to_one at most as many,
    one_to_many at least as many. What does not hold fails the run.
    """

    kind: ClassVar[str] = "sql"
    set_wise: ClassVar[bool] = True
    sql: Expression
    expect: Expect | None = None


class PythonStep(_Step):
    """Source of `def transform(rows)`: it gets all rows as one pyarrow.Table and gives the table that goes on.

    As `def transform(rows, parameters)` it gets the run's parameters too, by their names, dates and times as such.
    The fields it gives are those of `schema` (field to type), else those it gives for a table without rows. `expect`
    as for sql. With `row_ids` the table has a field `row_id` more, which the table given back must have too: then the
    ledger proves which rows were kept, filtered and doubled; a NULL there is a row that is new.
    """

    kind: ClassVar[str] = "python"
    set_wise: ClassVar[bool] = True
    python: Annotated[str, Field(min_length=1, max_length=100_000)]
    expect: Expect | None = None
    given_schema: Annotated[dict[FieldName, str], Field(min_length=1)] | None = Field(default=None, alias="schema")
    row_ids: bool = False


STEPS: tuple[type[_Step], ...] = (
    SelectStep,
    DropStep,
    RenameStep,
    CastStep,
    DeriveStep,
    FilterStep,
    ValidateStep,
    DedupeStep,
    MaskStep,
    FlattenStep,
    ExplodeStep,
    JoinStep,
    AggregateStep,
    SqlStep,
    PythonStep,
)
STEP_KINDS: tuple[str, ...] = tuple(step.kind for step in STEPS)


def _kind(value: Any) -> str:
    if isinstance(value, _Step):
        return value.kind
    return exactly_one(value, STEP_KINDS, what="step", besides=("name", "expect", "schema", "row_ids"))


def _known(value: Any) -> Any:
    _kind(value)
    return value


Step = Annotated[
    Annotated[SelectStep, mark("select")]
    | Annotated[DropStep, mark("drop")]
    | Annotated[RenameStep, mark("rename")]
    | Annotated[CastStep, mark("cast")]
    | Annotated[DeriveStep, mark("derive")]
    | Annotated[FilterStep, mark("filter")]
    | Annotated[ValidateStep, mark("validate")]
    | Annotated[DedupeStep, mark("dedupe")]
    | Annotated[MaskStep, mark("mask")]
    | Annotated[FlattenStep, mark("flatten")]
    | Annotated[ExplodeStep, mark("explode")]
    | Annotated[JoinStep, mark("join")]
    | Annotated[AggregateStep, mark("aggregate")]
    | Annotated[SqlStep, mark("sql")]
    | Annotated[PythonStep, mark("python")],
    choose(_kind),
    BeforeValidator(_known),
]
