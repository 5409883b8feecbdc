"""Narrow reads: which streams of which sources have the same rows whatever columns are asked for, and which may not."""

from pathlib import Path

import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadRequest
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.source import FilesSource

from .test_postgres_loads import execute, source

RELATIONS = {
    "CREATE TABLE held (id int, note text)": True,
    "CREATE TABLE held (id int, note text) PARTITION BY RANGE (id)": True,
    "CREATE VIEW held AS SELECT 1 AS id, 'a' AS note": True,
    "CREATE MATERIALIZED VIEW held AS SELECT 1 AS id, 'a' AS note": True,
    "CREATE FOREIGN DATA WRAPPER files; CREATE SERVER there FOREIGN DATA WRAPPER files; "
    "CREATE FOREIGN TABLE held (id int, note text) SERVER there": False,
}


@pytest.mark.parametrize("made", RELATIONS)
async def test_postgres_narrows_what_is_its_own(empty_database_url: str, context: Context, made: str) -> None:
    """What another server gives may be refused row by row, for a value that nobody would ask for."""
    await execute(empty_database_url, *made.split("; "))
    held = source(empty_database_url, context)
    assert await held.narrow(ReadRequest(stream="public.held")) is RELATIONS[made]
    await held.close()


async def test_a_query_is_read_as_it_is_written(empty_database_url: str, context: Context) -> None:
    held = source(empty_database_url, context)
    assert not await held.narrow(ReadRequest(query="SELECT 1 AS id, 2 AS note"))
    await held.close()


@pytest.mark.parametrize(
    ("form", "stream", "narrow"),
    [
        ("auto", "a.parquet", True),
        ("auto", "sales/**/*.parquet", True),
        ("parquet", "sales", True),
        ("auto", "sales", False),
        ("auto", "a.csv", False),
        ("auto", "a.ndjson", False),
        ("auto", "a.arrow", False),
        ("csv", "a.parquet", False),
    ],
)
async def test_of_files_only_parquet_is_narrowed(
    tmp_path: Path, context: Context, form: str, stream: str, narrow: bool
) -> None:
    """A line whose other field does not fit is rejected, and would come through without a look at it."""
    config = FilesConfig.model_validate({"root": f"file://{tmp_path}", "format": form})
    assert await FilesSource(config, context).narrow(ReadRequest(stream=stream)) is narrow
