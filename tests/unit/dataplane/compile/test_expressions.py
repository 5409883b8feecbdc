"""Expressions and queries: what may be said, and what is told about the rest."""

import json
from collections.abc import Callable

import duckdb
import pytest

from dataaggregator.dataplane.compile import functions
from dataaggregator.dataplane.compile.expressions import check_expression, check_measure, check_query
from dataaggregator.dataplane.compile.keywords import RESERVED
from dataaggregator.dataplane.compile.texts import WrongSqlError

GOOD = [
    "a + 1 > {{ parameters.x }}", "upper(name) || 'x'", "case when a is null then 1 else 2 end",
    "a::decimal(10,2)", "try_cast(a as int)", "list_transform([1,2], lambda x: x+1)", "x ->> '$.a'",
    "date_diff('day', a, b)", "a in (1,2,3)", "extract(year from a)", "a between 1 and 2", "l.list_sort()",
    "string_split(a, ',')[1]", "a like 'x%' and not b", "date_trunc('month', d) + interval '1 day'", "\"odd name\" > 1",
]  # fmt: skip
BAD = [
    ("sum(a)", "line 1, column 1: an aggregate"),
    ("a +\n  count(*)", "line 2, column 3: an aggregate"),
    ("row_number() over ()", "line 1, column 1: a window function"),
    ("(select 1)", "a subquery"),
    ("exists (select 1)", "a subquery"),
    ("a + now()", "gives another value at another moment"),
    ("current_date", "gives another value at another moment"),
    ("random()", "gives another value at another moment"),
    ("gen_random_uuid()", "gives another value at another moment"),
    ("a = getenv('X')", "line 1, column 5: the function getenv is unknown or may not be used"),
    ("current_setting('x')", "may not be used"),
    ("no_such_function(a)", "unknown"),
    ("read_csv('x')", "may not be used"),
    ("glob('*')", "may not be used"),
    ("a, b", "one expression"),
    ("a as b", "one expression"),
    ("a) from t --", "cannot be read as SQL"),
    ("1; drop table x", "cannot be read as SQL"),
    ("a +", "cannot be read as SQL"),
    ("a =\n  = b", "line 2, column 3"),
    ("'{{ parameters.x }}'", "without quotes"),
    ("{{ environment.x }}", "line 1, column 1: the only thing between"),
    ("a > $1", "a value from outside"),
    ("a > ?", "a value from outside"),
    ("columns(*)", "name the fields"),
]
QUERIES = [
    "select * from a",
    "select * from a join b using (id);",
    "with x as (select * from a) select * from x",
    "select *, row_number() over (order by id) from a union all select * from b",
    "select * from a, unnest(l) u",
    "from a select id",
    "select now() from a where id in (select id from b)",
    "select * exclude (id) from a",
    'select * from "clean-a"',
]
NOT_QUERIES = [
    "select * from read_csv('x')", "select * from 'x.csv'", "select * from main.a", "pragma version", "attach 'x'",
    "copy a to 'x'", "select * from glob('*')", "select * from duckdb_settings()", "select 1; select 2",
    "select * from c", "create table x as select 1", "select getenv('HOME') from a", "install httpfs",
    "set memory_limit='1'", "select * into x from a", "select * from information_schema.tables", "describe a",
    "call x()", "select * from query('select 1')", "insert into a values (1)", "update a set x = 1", "selec * from a",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_an_expression_over_one_row_passes(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(("text", "words"), BAD)
def test_anything_else_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(WrongSqlError) as caught:
        check_expression(text)
    assert words in caught.value.told("f").message


@pytest.mark.parametrize("text", ["sum(a)", "count(*)", "round(avg(a), 2)", "max(a) - min(b)", "string_agg(a, ',')"])
def test_measures_are_aggregates(text: str) -> None:
    check_measure(text)


@pytest.mark.parametrize("text", ["a", "a + 1", "sum(a) over ()", "sum(random())", "(select sum(a) from b)"])
def test_other_measures_are_refused(text: str) -> None:
    with pytest.raises(WrongSqlError):
        check_measure(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_measure, "max(at)"),
        (check_measure, "sum(a) + max(end)"),
        (check_expression, "order + 1"),
        (check_expression, "a =\n  upper(Group)"),
        (lambda text: check_query(text, ["a"]), "select max(at) as x from a"),
    ],
)
def test_a_field_named_by_a_word_of_sql_stands_in_quotes(check: Callable[[str], object], text: str) -> None:
    with pytest.raises(WrongSqlError) as caught:
        check(text)
    word = caught.value.message.split()[0]
    at = text.lower().index(word)
    line, column = text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1
    assert caught.value.told("f").message.startswith(f"line {line}, column {column}: {word} is a word of SQL")
    check(text[:at] + f'"{word}"' + text[at + len(word) :])


def test_no_word_of_the_engine_passes_as_a_field_that_it_would_not_take() -> None:
    engine = duckdb.connect()
    words: dict[str, set[str]] = {}
    for word, kind in engine.execute("SELECT keyword_name, keyword_category FROM duckdb_keywords()").fetchall():
        words.setdefault(word, set()).add(kind)
    assert {word for word, kinds in words.items() if kinds <= {"reserved", "type_function"}} == RESERVED
    forms = [("{}", check_expression), ("a + {}", check_expression), ("upper({})", check_expression)]
    wrong = []
    for word in words:
        for form, check in [*forms, ("f.{}", check_expression), ("max({})", check_measure)]:
            try:
                check(form.format(word))
            except WrongSqlError:
                continue
            read = engine.execute("SELECT json_serialize_sql($1)", [f"SELECT ({form.format(word)})"]).fetchall()
            if json.loads(read[0][0])["error"]:
                wrong.append(form.format(word))
    assert wrong == []


@pytest.mark.parametrize("text", QUERIES)
def test_one_select_over_the_inputs_passes(text: str) -> None:
    check_query(text, ["a", "b", "clean-a"])


@pytest.mark.parametrize("text", NOT_QUERIES)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(WrongSqlError):
        check_query(text, ["a", "b", "clean-a"])


def test_a_query_says_which_inputs_it_reads() -> None:
    assert check_query("select * from B, (select 1) c", ["a", "b"])[1] == {"b"}


def test_every_function_allowed_over_one_row_is_stable_in_the_engine() -> None:
    found = duckdb.connect().execute(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type = 'scalar' "
        "AND stability <> 'CONSISTENT'"
    )
    volatile = {name for (name,) in found.fetchall()}
    assert volatile & (functions.SCALARS | functions.OPERATORS | functions.AGGREGATES) == set()
