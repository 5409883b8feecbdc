"""What free SQL over one input proves: the numbers of its rows or the counts of its groups, and never other rows."""

from collections import Counter
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS: list[dict[str, Any]] = [
    {"id": n, "c": "xyz"[n % 3] if n % 5 else None, "v": n % 4, "tags": list(range(n % 3))} for n in range(20)
]
NUMBERED: dict[str, tuple[int, int, int]] = {
    "select * from flow": (20, 0, 0),
    "select id as k, v * 2 as w from flow where v > 1;": (10, 0, 0),
    "SELECT f.* EXCLUDE (tags) FROM FLOW AS f ORDER BY id DESC LIMIT 7 OFFSET 2": (7, 0, 0),
    "select id, row_number() over (partition by c order by id) as n from flow qualify n = 1": (4, 0, 0),
    "select id, unnest(tags) as tag from flow": (13, 6, 0),
    "select a.id, b.v from flow a join flow b on a.id = b.v": (4, 16, 0),
    "select b.id from flow a right join flow b on a.id = b.id + 15": (5, 0, 15),
    "select a.id from flow a semi join (select 3 as v) t using (v)": (5, 0, 0),
    "select id, t.k from flow, range(3) t(k)": (20, 40, 0),
    "with big as (select max(v) as m from flow) select id from flow, big where v = m": (5, 0, 0),
    "select id, (select count(*) from flow) as n from flow where id in (select min(id) from flow group by c)": (
        4,
        0,
        0,
    ),
    "select id from flow where random() >= 0": (20, 0, 0),
    'select "id" as "a ""b", count(*) over () as n from flow as "f ""g"': (20, 0, 0),
    "select a from flow as f(a, b)": (20, 0, 0),
    "select id from flow where id < {{ parameters.most }}": (6, 0, 0),
    "select id from flow where false": (0, 0, 0),
}
GROUPED: dict[str, tuple[int, int, int]] = {
    "select c, count(*) as n from flow group by c": (4, 20, 0),
    "select count(*) as n, sum(v)::bigint as s from flow": (1, 20, 0),
    "select v, max(id) as m from flow where c is not null group by v order by m desc": (4, 16, 4),
    "select v % 2 as odd, sum(count(*)) over () as n from flow where c > 'x' group by 1": (2, 11, 9),
    "select max(v) as m from flow f where f.id < {{ parameters.most }} and v < {{ parameters.other }} group by f.c": (
        3, 5, 15,
    ),
    "select count(*) as n from flow where c is not null and id > 16 and (c || id)[2:]::int > 17": (1, 2, 18),
    "select count(*) as n from flow where c <> 'x' and translate(c, 'yz', '77')::int = 7": (1, 11, 9),
    "select c, v from flow group by c, v": (15, 20, 0),
    "select min(id) as m from flow where v > 9": (1, 0, 20),
}  # fmt: skip
PARAMETERS = {"most": 6, "other": 3}
NOTHING_KNOWN = (
    "select distinct c from flow",
    "select distinct on (c) id, c from flow",
    "select id from flow union all select id from flow",
    "select c from flow group by all",
    "select c, count(*) as n from flow group by c having n > 1",
    "select c, v, count(*) as n from flow group by rollup (c, v)",
    "select c, count(*) as n from flow group by c limit 2",
    "select c, count(*) as n from flow where random() < 0.5 group by c",
    "select c, count(*) as n from flow where v in (select v from flow where random() < 0.5) group by c",
    "select t.id from (select * from flow) t",
    "with flow2 as (select * from flow) select id from flow2",
    "with flow as (select 1 as id) select id from flow",
    "select k as id from range(3) t(k)",
    "select id as _dataaggregator_proof from flow",
    "select c, count(*) as n from flow a join flow b using (c) group by c",
    "select count(*) as n from flow tablesample 50%",
)


def same_rows(given: pa.Table, sql: str) -> bool:
    """The rows of the very query, by an engine of its own that knows nothing of proofs."""
    connection = duckdb.connect()
    connection.register("flow_rows", pa.Table.from_pylist(ROWS))
    connection.execute("CREATE TABLE flow AS FROM flow_rows")
    for name, value in PARAMETERS.items():
        sql = sql.replace(f"{{{{ parameters.{name} }}}}", str(value))
    wanted = connection.sql(sql.removesuffix(";")).to_arrow_table()
    return wanted.column_names == given.column_names and Counter(map(str, wanted.to_pylist())) == Counter(
        map(str, given.to_pylist())
    )


@pytest.mark.parametrize("sql", NUMBERED)
def test_rows_are_proven_by_their_numbers(transform: Any, sql: str) -> None:
    out = transform([{"sql": sql}], ROWS, parameters=PARAMETERS, batch_rows=7)
    (counts,) = out.counts
    assert (counts.accounting, counts.read) == ("proven", 20)
    assert (counts.kept, counts.doubled, counts.invented) == NUMBERED[sql]
    assert counts.filtered == {"query": 20 - NUMBERED[sql][0]}
    assert counts.written == sum(NUMBERED[sql]) == out.table.num_rows
    assert same_rows(out.table, sql)


@pytest.mark.parametrize("sql", GROUPED)
def test_groups_are_proven_by_their_counts(transform: Any, sql: str) -> None:
    out = transform([{"sql": sql}], ROWS, parameters=PARAMETERS, batch_rows=7)
    (counts,) = out.counts
    assert (counts.accounting, counts.read) == ("proven", 20)
    assert (counts.groups, counts.counted, sum(counts.filtered.values())) == GROUPED[sql]
    assert counts.written == counts.groups == out.table.num_rows
    assert same_rows(out.table, sql)


@pytest.mark.parametrize("sql", NOTHING_KNOWN)
def test_where_nothing_can_be_proved_nothing_is_said(transform: Any, sql: str) -> None:
    out = transform([{"sql": sql}], ROWS)
    (counts,) = out.counts
    assert (counts.accounting, counts.kept, counts.counted, counts.filtered) == ("unaccounted", None, None, {})
    assert (
        "random" in sql or "limit" in sql or "tablesample" in sql or "distinct on" in sql or same_rows(out.table, sql)
    )


def test_a_field_that_has_the_name_of_the_number_is_no_number(transform: Any) -> None:
    out = transform([{"sql": "select * from flow"}], [{"RowID": 7}, {"RowID": 7}])
    assert (out.values, out.counts[0].accounting) == ([{"RowID": 7}, {"RowID": 7}], "unaccounted")


def test_over_several_inputs_nothing_is_proved(transform: Any) -> None:
    out = transform([{"sql": "select f.id from flow f join other o on f.id = o.id"}], ROWS, other=[{"id": 3}])
    assert (out.values, out.counts[0].accounting) == ([{"id": 3}], "unaccounted")


def test_what_is_expected_is_held_beside_the_proof(transform: Any) -> None:
    (counts,) = transform([{"sql": "select * from flow limit 3", "expect": "many_to_one"}], ROWS).counts
    assert (counts.accounting, counts.expect, counts.kept) == ("proven", "many_to_one", 3)


@settings(max_examples=25, deadline=None)
@given(
    shown=st.sampled_from(["*", "id", "id + v as k", "c, v, 1 as one", "row_number() over (order by id) as n"]),
    where=st.sampled_from(["", "v > 1", "c = 'x' or v = 3", "c is null", "v", "NOT (c > 'x')"]),
    order=st.sampled_from(["", "order by v, id", "order by id limit 5"]),
)
def test_any_plain_query_gives_its_own_rows_and_their_numbers(
    transform: Any, shown: str, where: str, order: str
) -> None:
    sql = f"select {shown} from flow {'where ' + where if where else ''} {order}"
    out = transform([{"sql": sql}], ROWS, batch_rows=6)
    (counts,) = out.counts
    assert (counts.accounting, counts.kept, counts.doubled, counts.invented) == ("proven", counts.written, 0, 0)
    assert same_rows(out.table, sql)
