"""Schema policies, the pure part: which differences a policy bears, and which type holds what two others hold."""

from dataclasses import replace
from uuid import UUID

import pyarrow as pa
import pytest

from dataaggregator.connector.destination import LoadRequest, SchemaPolicy, WriteKind
from dataaggregator.connector.differences import Difference, SchemaChangeWaits, judge
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.evolving import joined, read, wider, written
from dataaggregator_connectors.postgres.types import Column
from dataaggregator_connectors.postgres.widening import wider_type


def fields(**types: pa.DataType) -> pa.Schema:
    return pa.schema(types)


LOAD = LoadRequest(UUID(int=1), UUID(int=2), "t", WriteKind.APPEND, epoch=1)
ROWS = fields(id=pa.int64(), new=pa.string(), wide=pa.int64(), odd=pa.string())
NEW = Difference(SchemaDifference(kind="added", field="new"), "new", True, code="column-missing")
GONE = Difference(SchemaDifference(kind="removed", field="gone"), "gone", harmless=True)
WIDE = Difference(SchemaDifference(kind="changed", field="wide"), "wide", True, harmless=True, held=pa.int32())
ODD = Difference(SchemaDifference(kind="changed", field="odd"), "odd", held=pa.date32())
LOST = Difference(SchemaDifference(kind="changed", field="odd"), "odd")


def judged(policy: str, *found: Difference) -> tuple[list[str], list[str]]:
    made = judge(replace(LOAD, schema_policy=SchemaPolicy(policy)), ROWS, found)
    return [one.column for one in made.make], [f"{one.name}:{one.type}" for one in made.schema]


def refused(policy: str, *found: Difference) -> tuple[str, list[str]]:
    with pytest.raises(Invalid) as raised:
        judged(policy, *found)
    return raised.value.code, [error.field for error in raised.value.errors]


ALL = ["id:int64", "new:string", "wide:int64", "odd:string"]


def test_nothing_that_differs_is_nothing_to_judge() -> None:
    for policy in SchemaPolicy:
        assert judged(policy) == ([], ALL)


def test_evolve_makes_what_is_possible_and_refuses_the_rest_by_name() -> None:
    assert judged("evolve", NEW, WIDE, GONE) == (["new", "wide"], ALL)
    assert refused("evolve", NEW, ODD, WIDE) == ("column-incompatible", ["odd"])


def test_freeze_names_everything() -> None:
    assert refused("freeze", NEW, WIDE, ODD, GONE) == ("schema-frozen", ["new", "wide", "odd", "gone"])


def test_discard_column_leaves_out_what_is_new_and_nothing_else() -> None:
    assert judged("discard_column", NEW, WIDE, GONE) == ([], ["id:int64", "wide:int64", "odd:string"])
    assert refused("discard_column", NEW, ODD) == ("column-incompatible", ["odd"])


def test_discard_row_hands_a_column_over_as_what_it_holds() -> None:
    assert judged("discard_row", NEW, WIDE, ODD) == ([], ["id:int64", "wide:int64", "odd:date32[day]"])
    assert refused("discard_row", NEW, LOST) == ("column-incompatible", ["odd"])


def test_pause_makes_what_was_approved_and_waits_with_all_of_the_rest() -> None:
    pausing = replace(LOAD, schema_policy=SchemaPolicy.PAUSE)
    with pytest.raises(SchemaChangeWaits) as raised:
        judge(replace(pausing, approved=(NEW.told,)), ROWS, [NEW, WIDE, GONE])
    assert (raised.value.code, raised.value.differences) == ("schema-change-waits", (WIDE.told, GONE.told))
    made = judge(replace(pausing, approved=(NEW.told, GONE.told)), ROWS, [NEW, GONE])
    assert ([one.column for one in made.make], [one.column for one in made.left]) == (["new"], ["gone"])
    other = NEW.told.model_copy(update={"after": "integer"})
    with pytest.raises(SchemaChangeWaits):
        judge(replace(pausing, approved=(other,)), ROWS, [NEW])
    assert refused("pause", NEW, ODD) == ("column-incompatible", ["odd"])


def test_rows_of_which_nothing_would_be_left_are_refused() -> None:
    with pytest.raises(Invalid, match="none of the columns") as raised:
        judge(replace(LOAD, schema_policy=SchemaPolicy.DISCARD_COLUMN), pa.schema({"new": pa.string()}), [NEW])
    assert raised.value.code == "column-missing"


def column(declared: str, element: str | None = None) -> Column:
    return Column("c", declared, declared, declared, -1, element, builtin=True, not_null=False, generated=False)


@pytest.mark.parametrize(
    ("held", "given", "both"),
    [
        ("smallint", "integer", "integer"), ("integer", "bigint", "bigint"), ("bigint", "integer", None),
        ("integer", "integer", None), ("integer", "numeric(12,2)", "numeric(12,2)"),
        ("integer", "numeric(6,2)", "numeric(12,2)"), ("bigint", "numeric", "numeric"),
        ("integer", "numeric(8,0)", None), ("numeric(10,2)", "numeric(12,4)", "numeric(12,4)"),
        ("numeric(10,2)", "numeric(6,4)", "numeric(12,4)"), ("numeric(10,2)", "numeric(8,1)", None),
        ("numeric", "numeric(8,1)", None), ("numeric(10,2)", "numeric", "numeric"),
        ("numeric(1000,0)", "numeric(1000,1000)", "numeric"), ("numeric(10,2)", "double precision", None),
        ("real", "double precision", "double precision"), ("real", "smallint", None),
        ("real", "integer", "double precision"), ("integer", "double precision", "double precision"),
        ("bigint", "double precision", None), ("double precision", "real", None),
        ("character varying(3)", "character varying(9)", "character varying(9)"),
        ("character varying(9)", "character varying(3)", None), ("character varying(3)", "text", "text"),
        ("character varying(3)", "character varying", "text"), ("text", "character varying(3)", None),
        ("character(3)", "character(9)", None), ("date", "timestamp", "timestamp without time zone"),
        ("date", "timestamp with time zone", None), ("timestamp without time zone", "date", None),
        ("timestamp(0) without time zone", "timestamp(3) without time zone", "timestamp(3) without time zone"),
        ("timestamp(0) with time zone", "timestamp with time zone", "timestamp with time zone"),
        ("timestamp(3) with time zone", "timestamp(3) without time zone", None), ("text", "integer", None),
        ("boolean", "integer", None), ("integer[]", "bigint[]", None), ("jsonb", "", None),
    ],
)  # fmt: skip
def test_the_type_that_holds_both(held: str, given: str, both: str | None) -> None:
    assert wider_type(column(held), given) == both


def test_arrays_and_types_of_the_users_own_are_left_alone() -> None:
    assert wider_type(column("integer", "int4"), "bigint") is None
    assert wider_type(replace(column("integer"), builtin=False), "bigint") is None


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int32(), pa.int64(), pa.int64()), (pa.int64(), pa.int8(), pa.int64()), (pa.int64(), pa.uint8(), None),
        (pa.float32(), pa.float64(), pa.float64()), (pa.int32(), pa.float64(), pa.float64()),
        (pa.int64(), pa.float64(), None), (pa.null(), pa.string(), pa.string()), (pa.string(), pa.null(), pa.string()),
        (pa.decimal128(6, 2), pa.decimal128(6, 4), pa.decimal128(8, 4)), (pa.string(), pa.int64(), None),
        (pa.decimal128(38, 0), pa.decimal128(4, 4), pa.decimal256(42, 4)),
        (pa.decimal256(76, 0), pa.decimal128(4, 4), None),
    ],
)  # fmt: skip
def test_the_arrow_type_that_holds_both(one: pa.DataType, other: pa.DataType, both: pa.DataType | None) -> None:
    assert wider(one, other) == both


def test_files_of_a_stream_have_the_columns_of_all_loads() -> None:
    before = fields(a=pa.int64(), b=pa.date32(), c=pa.string())
    after = fields(c=pa.int64(), a=pa.int32(), d=pa.json_(pa.string()))
    both = fields(b=pa.date32(), c=pa.int64(), a=pa.int64(), d=pa.json_(pa.string()))
    assert read(written(joined(before, after))) == both
