"""Set-wise steps over more than the engine is to hold: portion by portion they give what they give over the whole."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from dataaggregator.contracts.steps import JoinStep
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.dataplane.steps.gathered import Gathered
from dataaggregator.dataplane.steps.node import Graph, NodeSpec
from dataaggregator.dataplane.steps.rowfile import RowFile
from dataaggregator.errors import Invalid, Permanent
from tests.graphs import Outcome

from .conftest import portions_of

ROWS = 3_000
PORTION = 12_000
"""Bytes: of rows of which a table of these has 72,000."""
NUMBERS: dict[str, Callable[[int], int | None]] = {
    "each row its own": lambda n: n,
    "doubled": lambda n: n % 1_000,
    "skewed": lambda n: 7 if n % 10 else n,
    "few": lambda n: n % 3,
    "mostly null": lambda n: None if n % 10 else n,
    "all null": lambda _: None,
}
# Each has values that are equal and look different, or lie beside each other.
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "double": (pa.float64(), [0.0, -0.0, math.nan, -math.nan, math.inf, 1.5, None]),
    "float": (pa.float32(), [0.0, -0.0, math.nan, 1.5, None]),
    "text": (pa.string(), ["", "a", "A", "ä", "a\u0308", "\U0001f600", "a" * 40, None]),
    "large text": (pa.large_string(), ["", "a", None]),
    "words": (pa.dictionary(pa.int32(), pa.string()), ["", "a", "b", None]),
    "bytes": (pa.binary(), [b"", b"\0", b"\0\0", None]),
    "decimal": (pa.decimal128(12, 2), [Decimal("1.00"), Decimal("1.01"), Decimal("-1.00"), None]),
    "bool": (pa.bool_(), [True, False, None]),
    "date": (pa.date32(), [date(2024, 1, 1), date(1, 1, 1), None]),
    "time": (pa.time64("us"), [time(0), time(23, 59, 59, 999_999), None]),
    "timestamp": (pa.timestamp("us", "UTC"), [datetime(2024, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None]),
    "uuid": (pa.uuid(), [UUID(int=1).bytes, UUID(int=2).bytes, None]),
    "list": (pa.list_(pa.float64()), [[], [0.0], [-0.0], [None], [math.nan], None]),
    "struct": (
        pa.struct([("a", pa.float64()), ("b", pa.string())]),
        [{"a": -0.0, "b": "x"}, {"a": 0.0, "b": "x"}, None],
    ),
}


def column(kind: pa.DataType, values: list[Any]) -> Any:
    if isinstance(kind, pa.UuidType):
        return pa.array(values, pa.binary(16)).cast(kind)
    return pa.array(values, kind.value_type).cast(kind) if pa.types.is_dictionary(kind) else pa.array(values, kind)


def flow(spread: str) -> pa.Table:
    keys = [NUMBERS[spread](n) for n in range(ROWS)]
    return pa.table({"k": pa.array(keys, pa.int64()), "n": range(ROWS), "at": [n * 7919 % 1000 for n in range(ROWS)]})


def looked_at(out: Any) -> tuple[Any, ...]:
    """All that must be the same: the rows in any order, and the counts."""
    counts = [
        (one.read, one.written, one.inputs, one.groups, one.counted, one.kept, one.duplicates, one.fan_out)
        for one in out.counts
    ]
    return Counter(repr(row) for row in out.values), counts


HOWS = ("inner", "left", "full", "anti")
STEPS: dict[str, dict[str, Any]] = {
    "dedupe, first": {"dedupe": {"key": ["k"]}},
    "dedupe, last": {"dedupe": {"key": ["k"], "keep": "last"}},
    "dedupe, ordered": {"dedupe": {"key": ["k"], "order_by": ["at desc"]}},
    "aggregate": {"aggregate": {"by": ["k"], "measures": {"total": "sum(n)", "most": 'max("at")', "rows": "count(*)"}}},
    **{f"join, {how}": {"join": {"with": "other", "on": ["k"], "how": how}} for how in HOWS},
}


@pytest.mark.parametrize("spread", NUMBERS)
@pytest.mark.parametrize("step", STEPS)
def test_portions_give_what_the_whole_gives(transform: Any, step: str, spread: str) -> None:
    others = {}
    if "join" in STEPS[step]:
        keys = [*range(0, ROWS, 3), None, 7]
        others = {"other": pa.table({"k": pa.array(keys, pa.int64()), "m": range(len(keys))})}
    with portions_of(PORTION):
        parted = transform([STEPS[step]], flow(spread), **others)
    whole = transform([STEPS[step]], flow(spread), **others)
    assert looked_at(parted) == looked_at(whole)
    if "dedupe" in step:
        assert parted.table == whole.table  # the order of the rows as well


@pytest.mark.parametrize("name", VALUES)
def test_what_is_equal_is_in_one_portion_whatever_its_type(transform: Any, name: str) -> None:
    kind, values = VALUES[name]
    keys = column(kind, list(islice(cycle(values), 2_000)))
    table = pa.table({"k": keys, "n": range(2_000)})
    single = pa.table({"k": column(kind, values), "m": range(len(values))})
    for step, others in (
        ({"dedupe": {"key": ["k"]}}, {}),
        ({"aggregate": {"by": ["k"], "measures": {"rows": "count(*)"}}}, {}),
        ({"join": {"with": "other", "on": ["k"], "how": "full"}}, {"other": single}),
    ):
        with portions_of(200):
            parted = transform([step], table, **others)
        whole = transform([step], table, **others)
        assert looked_at(parted) == looked_at(whole)
        assert parted.table.schema == whole.table.schema


def test_numbers_of_two_types_meet_in_one_portion(transform: Any) -> None:
    big = 2**60
    cents = [Decimal(n) / 4 for n in range(800)] + [Decimal(big + n) for n in range(9)]
    left = pa.table({"k": pa.array([*range(200), *range(big, big + 9)], pa.int64())})
    right = pa.table({"k": pa.array(cents, pa.decimal128(30, 5)), "m": range(809)})
    step = {"join": {"with": "other", "on": ["k"], "how": "left", "expect": "one_to_one"}}
    with portions_of(1_000):
        out = transform([step], left, other=right, batch_rows=50)
    assert sorted((row["k"], row["m"]) for row in out.values) == [
        *((n, 4 * n) for n in range(200)),
        *((big + n, 800 + n) for n in range(9)),
    ]
    assert out.counts[0].inputs["flow"] == InputCounts(209, 209, 0)


def push(graph: Graph, given: Mapping[str, pa.Table]) -> None:
    for name, table in given.items():
        for batch in table.to_batches(max_chunksize=500):
            graph.push(name, batch)
        graph.finish(name)


def test_a_fan_out_is_counted_over_all_portions_and_no_row_goes_on_behind_it(engine: Engine) -> None:
    other = pa.table({"k": [n // 2 for n in range(2_000)], "m": range(2_000)})
    given = {"flow": flow("each row its own"), "other": other}
    step = JoinStep.model_validate({"join": {"with": "other", "on": ["k"], "expect": "many_to_one"}})
    outcome = Outcome(pa.schema([]))
    schemas = {name: table.schema for name, table in given.items()}
    graph = Graph([NodeSpec("t", tuple(given), (step,), ("t[0]",))], schemas, engine, {}, outcome)
    with portions_of(PORTION), pytest.raises(Invalid, match="1000 values of k stand in more than one row of other"):
        push(graph, given)
    assert outcome.batches == []


def test_an_error_of_a_late_portion_is_told_with_the_place_of_its_measure(transform: Any) -> None:
    table = pa.table({"k": range(ROWS), "t": ["1"] * (ROWS - 1) + ["no number"]})
    measures = {"rows": "count(*)", "total": "sum(t::int)"}
    with portions_of(PORTION), pytest.raises(Invalid, match="line 1, column 6: a value of t cannot") as caught:
        transform([{"aggregate": {"by": ["k"], "measures": measures}}], table)
    assert caught.value.errors[0].field == "steps[0].aggregate.measures.total"


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(Engine(1 << 30, tmp_path, 1 << 30), "t", "t[0]", "steps[0]", {})


def fill(gathered: Gathered, keys: Iterable[int]) -> None:
    left = iter(keys)
    while some := list(islice(left, 1_000)):
        gathered.add("rows", pa.RecordBatch.from_pydict({"k": pa.array(some, pa.int64())}))


def found(setting: Setting, gathered: Gathered) -> list[list[int]]:
    """The keys of each portion."""
    sql = f"FROM {gathered.tables['rows']}"
    return [
        [int(str(key)) for batch in setting.engine.stream(sql, {}, setting.place()) for key in batch.column(0)]
        for _ in gathered.portions()
    ]


def gathered_by(setting: Setting) -> Gathered:
    made = Gathered(setting, {"rows": pa.schema({"k": pa.int64()})})
    made.part_by({"rows": ["k"]})
    return made


def test_no_portion_is_larger_than_it_may_be(setting: Setting) -> None:
    with portions_of(8_000):
        gathered = gathered_by(setting)
        fill(gathered, range(100_000))
        portions = found(setting, gathered)
    assert all(len(portion) <= 1_000 for portion in portions)
    assert sorted(key for portion in portions for key in portion) == list(range(100_000))
    assert len(portions) < 300  # and they are not much smaller than they may be


def test_a_key_of_most_rows_is_not_parted_for_ever(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [setting.engine.spill_path("rows.arrow") for _ in range(4)]
    monkeypatch.setattr(setting.engine, "spill_path", lambda _: paths.pop())  # once for each time something is parted
    with portions_of(PORTION):
        gathered = gathered_by(setting)
        fill(gathered, (7 if n % 10 else n for n in range(20_000)))
        portions = found(setting, gathered)
    assert max(len(portion) for portion in portions) >= 18_000
    assert sum(len(portion) for portion in portions) == 20_000


def test_no_more_than_a_portion_is_in_a_table_once_there_are_many(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, put, held = setting.engine, setting.engine.append, list[int]()

    def append(table: str, rows: pa.RecordBatch, place: Place) -> None:
        put(table, rows, place)
        held.append(engine.row(f"SELECT count(*) FROM {table}", place)[0])

    monkeypatch.setattr(engine, "append", append)
    with portions_of(8_000):
        gathered = gathered_by(setting)
        fill(gathered, range(200_000))  # so many that each part is parted again
        assert (len(held), max(held)) == (3, 3_000)  # the last of them were one batch too many
        del held[:]
        found(setting, gathered)
    assert 0 < max(held) <= 1_000


def test_a_row_that_is_in_no_portion_fails_a_join(transform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    divide, lost = RowFile.divide, cycle([True, *[False] * 9])

    def losing(file: RowFile, rows: pa.RecordBatch, parts: Any) -> None:
        kept = rows.num_rows - next(lost)
        divide(file, rows.slice(0, kept), parts.slice(0, kept))

    monkeypatch.setattr(RowFile, "divide", losing)
    table, other = pa.table({"k": range(ROWS)}), pa.table({"k": range(ROWS), "v": range(ROWS)})
    with portions_of(PORTION), pytest.raises(Permanent, match="rows were in a portion") as caught:
        transform([{"join": {"with": "other", "on": ["k"]}}], table, other=other)
    assert caught.value.code == "unbalanced"


def test_rows_that_wait_to_be_parted_do_not_hold_the_fields_that_nobody_looks_at(setting: Setting) -> None:
    texts = ["a text that is long and that no key needs " * 100] * 1_000
    gathered = gathered_by(setting)
    before = pa.total_allocated_bytes()
    with portions_of(PORTION):
        fill(gathered, range(20_000))
    for first in range(20):
        rows = pa.table({"k": range(first, first + 1_000), "text": texts}).combine_chunks().to_batches()[0]
        gathered.add("rows", rows.select(["k"]))
    del rows
    assert pa.total_allocated_bytes() - before < 2 << 20  # with their texts they are 80 MB


def test_few_rows_are_in_no_file_and_in_one_portion(setting: Setting, tmp_path: Path) -> None:
    gathered = gathered_by(setting)
    fill(gathered, range(100_000))
    assert [sorted(portion) for portion in found(setting, gathered)] == [list(range(100_000))]
    assert list(tmp_path.iterdir()) == []


def test_a_step_leaves_no_file_behind(setting: Setting, tmp_path: Path) -> None:
    with portions_of(PORTION):
        gathered = gathered_by(setting)
        fill(gathered, range(20_000))
        assert len(list(tmp_path.iterdir())) == 1
        found(setting, gathered)
        gathered.release()
    assert list(tmp_path.iterdir()) == []


def test_a_full_spill_folder_is_told(tmp_path: Path) -> None:
    setting = Setting(Engine(1 << 30, tmp_path, 100_000), "t", "t[0]", "steps[0]", {})
    with portions_of(PORTION), pytest.raises(Permanent) as caught:
        fill(gathered_by(setting), range(100_000))
    assert caught.value.code == "sandbox-disk"
