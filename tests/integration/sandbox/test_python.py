"""The step python at work: in its own process, with its fields known before, its rows counted by the other side."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox.messages import Printed, Rows, StageCounts
from dataaggregator.errors import Invalid, Permanent
from tests.integration.sandbox.conftest import FLOW, Ran
from tests.integration.sandbox.pythons import python


def values(ran: Ran) -> list[dict[str, Any]]:
    return [row for m in ran.messages if isinstance(m, Rows) for row in m.batch.to_pylist()]


def counts(ran: Ran, at: int = 0) -> StageCounts:
    return [m for m in ran.messages if isinstance(m, StageCounts) and m.stage.startswith(f"t[{at}]")][-1]


PARQUET = """\
import pyarrow.parquet as q
out = pa.BufferOutputStream()
q.write_table(rows, out)
return q.read_table(pa.BufferReader(out.getvalue()))"""
PLAIN = """\
import re, json, math, datetime, collections, decimal, itertools, statistics, hashlib
names = [re.sub('a', 'x', json.loads(json.dumps(name))) for name in rows['name'].to_pylist()]
return rows.set_column(1, 'name', pa.array(names, pa.string()))"""
USUAL = {
    "group_by": ("return rows.group_by('name').aggregate([('id', 'sum')])", 3),
    "sort": ("return rows.sort_by([('id', 'descending')])", 3),
    "join": ("return rows.join(rows.select(['id']), 'id')", 3),
    "filter": ("return rows.filter(pc.field('id') > 1)", 2),
    "csv": ("import io, pyarrow.csv as c\nreturn c.read_csv(io.BytesIO(b'a,b\\n1,2\\n'))", 1),
    "parquet": (PARQUET, 3),
    "plain Python": (PLAIN, 3),
}


@pytest.mark.parametrize("name", USUAL)
def test_what_people_write_every_day_works_behind_the_lock(python_steps: Any, name: str) -> None:
    """What needs threads of Arrow's gets those that were there before the door was locked."""
    body, count = USUAL[name]
    assert len(python_steps([python(body)], FLOW).values) == count


async def test_all_rows_come_as_one_table_in_the_order_in_which_they_were_read(run: Any) -> None:
    n = 200_000
    flow = pa.table({"id": range(n), "text": [f"{i:>40}" for i in range(n)]})
    ran = await run([python("return rows.append_column('place', pa.array(range(len(rows)), pa.int64()))")], flow)
    table = pa.Table.from_batches([m.batch for m in ran.messages if isinstance(m, Rows)])
    assert table.equals(flow.append_column("place", pa.array(range(n), pa.int64())))
    assert (counts(ran).read, counts(ran).written, counts(ran).accounting) == (n, n, "unaccounted")


async def test_types_no_engine_takes_pass_it_unchanged(run: Any) -> None:
    flow = pa.table({"id": [1, 2], "span": pa.array([(1, 2, 3), None], pa.month_day_nano_interval())})
    ran = await run([python("return rows.sort_by([('id', 'descending')])")], flow)
    (rows,) = [m.batch for m in ran.messages if isinstance(m, Rows)]
    assert rows.column("span").to_pylist() == [None, flow["span"][0].as_py()]


WITH_PARAMETERS = """\
import datetime, pyarrow.compute as pc
def transform(rows, parameters):
    assert parameters["since"] == datetime.date(2026, 1, 2), parameters
    return rows.filter(pc.equal(rows["name"], parameters.pop("name")))"""


async def test_parameters_come_as_values_to_who_takes_them_anew_for_each_call(run: Any) -> None:
    """It is called twice: for the fields of no rows, and for the rows."""
    name = "b'); import os; (\"{{"
    flow = pa.table({"id": [1, 2], "name": ["a", name]})
    ran = await run([{"python": WITH_PARAMETERS}], flow, load={"parameters": {"name": name, "since": date(2026, 1, 2)}})
    assert values(ran) == [{"id": 2, "name": name}]


async def test_python_steps_feed_each_other_and_other_steps(run: Any) -> None:
    steps = [
        python("return rows.append_column('twice', pc.multiply(rows['id'], 2))"),
        {"filter": "twice > 2"},
        python("return rows.drop_columns(['name'])"),
        {"sql": "select sum(twice)::BIGINT as total from flow"},
    ]
    ran = await run(steps)
    assert values(ran) == [{"total": 10}]
    assert [counts(ran, at).written for at in range(4)] == [3, 2, 2, 1]


async def test_two_steps_with_more_rows_than_the_wire_holds_do_not_wait_for_each_other(run: Any) -> None:
    n = 300_000
    flow = pa.table({"id": range(n), "text": [f"{i:>100}" for i in range(n)]})
    ran = await run([python("return rows"), python("return rows")], flow)
    assert counts(ran, 1).written == n


async def test_fields_are_those_for_no_rows_and_later_ones_must_be_the_same(run: Any) -> None:
    with pytest.raises(Invalid) as caught:
        await run([python("return rows if not len(rows) else rows.rename_columns(['id', 'nam'])")])
    assert caught.value.code == "python-output-invalid"
    assert "without name and with nam" in caught.value.detail
    with pytest.raises(Invalid, match="the field id was to be int64 and is string"):
        await run([python("return rows if not len(rows) else rows.set_column(0, 'id', rows['id'].cast('string'))")])


async def test_given_fields_take_values_that_fit_and_no_others(run: Any) -> None:
    body = "from decimal import Decimal\nreturn pa.table({'x': [Decimal('1.5')] if len(rows) else [Decimal('1')]})"
    assert values(await run([python(body, schema={"x": "decimal(10,3)"})]))[0]["x"].as_tuple().exponent == -3
    with pytest.raises(Invalid, match="not all of its values fit"):
        await run([python(body, schema={"x": "decimal(10,0)"})])
    untyped = "return pa.table({'x': rows['id'].to_pylist()})"
    with pytest.raises(Invalid, match="x has no type when there are no rows; say the step's fields with `schema`"):
        await run([python(untyped)])
    assert values(await run([python(untyped, schema={"x": "integer"})])) == [{"x": 1}, {"x": 2}, {"x": 3}]


async def test_an_error_names_step_line_and_message_and_no_path_of_ours(run: Any) -> None:
    steps = [{"filter": "id > 0"}, python("if len(rows):\n    raise ValueError(pa.__file__)\nreturn rows")]
    with pytest.raises(Invalid) as caught:
        await run(steps, load={"samples": 1})
    (wrong,) = caught.value.errors
    assert (caught.value.code, wrong.field) == ("python-failed", "steps[1].python")
    assert caught.value.detail.startswith("t[1].python: line 5: ValueError: …/")
    assert str(Path(pa.__file__).parent) not in caught.value.detail
    with pytest.raises(Invalid, match=r"line 4: IndexError.*called with a table without rows"):
        await run([python("rows['id'][0]\nreturn rows")])
    with pytest.raises(Invalid, match=r"must return a pyarrow\.Table; this returned a list"):
        await run([python("return rows.to_pylist() if len(rows) else rows")])


async def test_what_python_says_of_a_row_is_told_only_where_rows_are_shown(run: Any) -> None:
    failing = [python("if len(rows):\n    int(f'{rows[\"id\"][0].as_py() + 40}nd')\nreturn rows")]
    fitting = [python("return pa.table({'x': [414243] if len(rows) else []})", schema={"x": "smallint"})]
    for steps, value, told in (
        (failing, "41nd", "line 5: ValueError: what it says may be a row's"),
        (fitting, "414243", "not all of its values fit"),
    ):
        with pytest.raises(Invalid, match=value):
            await run(steps, load={"samples": 1})
        with pytest.raises(Invalid, match=told) as caught:
            await run(steps)
        assert value not in f"{caught.value} {caught.value.errors}"


async def test_what_is_printed_comes_out_bounded(run: Any) -> None:
    ran = await run([python("print('seen', len(rows))\nprint('x' * 10_000_000)\nreturn rows")])
    (printed,) = [m for m in ran.messages if isinstance(m, Printed)]
    assert printed.stage == "t[0].python"
    assert printed.text.startswith("seen 3\nxxx")
    assert len(printed.text) == 4_000


async def test_a_process_that_ends_itself_is_a_plain_failure(run: Any) -> None:
    with pytest.raises(Permanent) as caught:
        await run([python("import os\nif len(rows):\n    os._exit(3)\nreturn rows")])
    assert (caught.value.code, "t[0].python" in caught.value.detail) == ("sandbox-killed", True)
