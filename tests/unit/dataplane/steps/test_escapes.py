"""SQL that wants out is refused by the engine's own reading of it, even when nobody compiled it before."""

from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.errors import PlatformError

pytestmark = pytest.mark.security

FLOW = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})

SQL = [
    "select * from read_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_text('/proc/self/environ')",
    "select * from read_blob('/dev/sda')",
    "select * from glob('/root/*')",
    "select getenv('SECRET_KEY')",
    "select * from duckdb_settings()",
    "select * from duckdb_secrets()",
    "select current_setting('temp_directory')",
    "select * from query('select 1')",
    "select * from query_table('flow')",
    "select * from pragma_database_list",
    "select * from information_schema.tables",
    "select * from flow; attach '/tmp/x.db'",
    "attach '/tmp/x.db'",
    "copy flow to '/tmp/escaped.csv'",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '100GB'",
    "pragma disable_checkpoint_on_shutdown",
    "create table escaped as select 1",
    "export database '/tmp/escaped'",
    "call pragma_version()",
    "select * from python_map_function()",
    "select * from read_parquet('https://example.org/x.parquet')",
    "select * from flow) t; select * from read_csv('/etc/passwd') --",
    "with x as (select * from read_json('/etc/passwd')) select * from x",
    "select (select count(*) from read_csv('/etc/passwd')) as n from flow",
    "select * from json_execute_serialized_sql('{}')",
    "select write_log('x')",
    "select sleep_ms(100000)",
]


@pytest.mark.parametrize("sql", SQL)
def test_sql_leads_nowhere(transform: Any, sql: str) -> None:
    with pytest.raises(PlatformError) as caught:
        transform([{"sql": sql}], FLOW)
    assert caught.value.code == "definition-invalid"


@pytest.mark.parametrize(
    "sql",
    ["(select content from read_text('/etc/passwd'))", "1) from read_csv('/etc/passwd') --", "1), (getenv('HOME')",
     "name.getenv()", "\"getenv\"('HOME')", "error(getenv('HOME'))", "current_setting('spill')", "1; drop view x",
     "name /* */ ) , ( select 1"],
)  # fmt: skip
def test_expressions_lead_nowhere(transform: Any, sql: str) -> None:
    with pytest.raises(PlatformError) as caught:
        transform([{"derive": {"x": sql}}], FLOW)
    assert caught.value.code == "definition-invalid"
