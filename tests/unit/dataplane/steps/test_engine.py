"""The engine: its memory, the statements it repeats over one batch after the other, and its errors told whenever."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.steps.engine import FIRST_BYTES, ROWS, Engine, Place
from dataaggregator.errors import Invalid, Permanent

PLACE = Place("t", "steps[0].sql")
LISTED = "SELECT k, string_agg(text, ',') AS x FROM texts GROUP BY k"


def engine_of(memory_bytes: int, folder: Path) -> Engine:
    """With two million texts in a table, of which a part is in the spill folder."""
    engine = Engine(memory_bytes, folder, 1 << 30)
    engine._connection.execute("CREATE TABLE texts AS SELECT n % 100 AS k, 'abc' || n AS text FROM range(2000000) r(n)")
    return engine


def rows_of(engine: Engine, sql: str) -> int:
    return sum(batch.num_rows for batch in engine.stream(sql, {}, PLACE))


def test_what_can_be_spilled_takes_no_more_memory(tmp_path: Path) -> None:
    engine = engine_of(1 << 30, tmp_path)
    assert rows_of(engine, "SELECT text, max(k) FROM texts GROUP BY text") == 2_000_000
    assert engine.limit_bytes == FIRST_BYTES
    assert engine.spilled_bytes() > 0


@pytest.mark.parametrize("streamed", [True, False], ids=["many rows", "one row"])
def test_a_statement_that_needs_more_gets_more_up_to_the_share(tmp_path: Path, streamed: bool) -> None:
    engine = engine_of(1 << 30, tmp_path)
    found = rows_of(engine, LISTED) if streamed else engine.row(f"SELECT count(x) FROM ({LISTED})", PLACE)[0]
    assert found == 100
    assert FIRST_BYTES < engine.limit_bytes <= 256 << 20


def test_what_the_whole_share_is_not_enough_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        rows_of(engine_of(256 << 20, tmp_path), LISTED)
    assert caught.value.code == "sandbox-memory"


def test_a_small_sandbox_has_a_smaller_engine(tmp_path: Path) -> None:
    assert Engine(128 << 20, tmp_path, 1 << 30).limit_bytes == 32 << 20


def test_an_error_of_a_late_row_is_told_as_one_of_an_early_row(transform: Any) -> None:
    flow = pa.table({"text": ["1"] * 299_999 + ["no number"]})
    with pytest.raises(Invalid, match="a value of text cannot be converted") as caught:
        transform([{"sql": "select cast(text as int) as n from flow"}], flow)
    assert caught.value.code == "expression-failed"


TWICE = f"SELECT n + n AS x FROM {ROWS}"


def evaluated(engine: Engine, column: Any, sql: str = TWICE, **values: Any) -> list[Any]:
    answer = engine.evaluate(pa.record_batch({"n": column}), sql, values, PLACE)
    return list(answer.column("x").to_pylist())


def test_a_statement_is_read_once_for_all_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(1 << 30, tmp_path, 1 << 30)
    assert evaluated(engine, [1, 2]) == [2, 4]
    monkeypatch.setattr(engine, "_connection", None)
    assert evaluated(engine, [3]) == [6]
    assert evaluated(engine, pa.array([], pa.int64())) == []


def test_each_statement_sees_its_own_rows_whatever_came_between(tmp_path: Path) -> None:
    engine, added = Engine(1 << 30, tmp_path, 1 << 30), f"SELECT n + $more AS x FROM {ROWS}"
    assert evaluated(engine, [1, 2]) == [2, 4]
    assert evaluated(engine, [1, 2], added, more=1) == [2, 3]
    assert evaluated(engine, [1.5]) == [3.0]  # of another type
    assert evaluated(engine, [1, 2], added, more=10) == [11, 12]
    assert evaluated(engine, [8], f"SELECT n - 1 AS x FROM {ROWS}") == [7]
    assert evaluated(engine, [2.5]) == [5.0]
    assert evaluated(engine, [4]) == [8]


def test_a_statement_goes_on_after_a_batch_it_failed_over(tmp_path: Path) -> None:
    engine, number = Engine(1 << 30, tmp_path, 1 << 30), f"SELECT n::int AS x FROM {ROWS}"
    assert evaluated(engine, ["1"], number) == [1]
    with pytest.raises(Invalid, match="a value of n cannot be converted"):
        evaluated(engine, ["no number"], number)
    assert evaluated(engine, ["2"], number) == [2]


class Memory(bytearray):
    """One that tells when nobody has it any more."""


def test_no_rows_are_held_when_a_statement_is_done(tmp_path: Path) -> None:
    memory = Memory(16)
    column = pa.Array.from_buffers(pa.int64(), 2, [None, pa.py_buffer(memory)])
    engine = Engine(1 << 30, tmp_path, 1 << 30)
    assert evaluated(engine, column) == [0, 0]
    gone = weakref.ref(memory)
    del memory, column
    gc.collect()
    assert gone() is None
