"""A hundred and more ways out by SQL: against the readings before, the engine's lock alone and the kernel's alone."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from dataaggregator.dataplane.compile import expressions
from dataaggregator.dataplane.compile.texts import WrongSqlError
from dataaggregator.dataplane.steps import guard
from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.errors import Invalid
from tests.integration.sandbox.attempts import EXPRESSIONS, QUERIES

pytestmark = pytest.mark.security

CANARY = "root:canary"
PLACE = Place("t", "steps[0].sql")
FLOW = pa.table({"id": [1, 2], "name": ["a", "b"]})

# Behind the lock a bare engine with all its doors open: what it gets to see is printed.
_BARE = """
import json, pathlib, sys
from dataaggregator.dataplane.sandbox import lockdown
spill, attempts = pathlib.Path(sys.argv[1]), json.load(sys.stdin)
lockdown.apply(lockdown.Lock(spill, 4 << 30, 60, 1 << 20, True))
import duckdb
for sql in attempts:
    connection = duckdb.connect()
    connection.execute("create table flow as select 1 as id, 'a' as name")
    try:
        told = str(connection.execute(sql).fetchall())
    except Exception:
        continue
    if "root:" in told or "HOME" in told:
        print("OUT:", sql)
print("tried", len(attempts))
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(f"{CANARY}\n")
    (tmp_path / "secret.csv").write_text(f"{CANARY}\n")
    return file


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "outside" / "written"


@pytest.fixture
def attempts(secret: Path, written: Path) -> Callable[[tuple[str, ...]], list[str]]:
    """The texts with real files in them."""
    written.parent.mkdir()
    return lambda texts: [text.replace("{secret}", str(secret)).replace("{written}", str(written)) for text in texts]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    spill = tmp_path / "spill"
    spill.mkdir()
    engine = Engine(1 << 30, spill, 1 << 20)
    engine._connection.register("flow", FLOW)
    yield engine
    engine._connection.close()


def test_each_query_is_refused_by_both_readings(attempts: Any, engine: Engine) -> None:
    """At saving, and in the sandbox by the engine's own tree, where nobody compiled it."""
    for text in attempts(QUERIES):
        with pytest.raises(WrongSqlError):
            expressions.check_query(text, ["flow"])
        with pytest.raises(Invalid):
            guard.check_query(engine, text, frozenset({"flow"}), PLACE)


def test_each_expression_is_refused_by_one_reading_at_least(attempts: Any, engine: Engine) -> None:
    """Words such as current_database() only the engine knows for calls, places for values only the compiler."""
    for text in attempts(EXPRESSIONS):
        with pytest.raises((WrongSqlError, Invalid)):
            _both_read(text, engine)


def test_the_engine_alone_lets_none_out(attempts: Any, engine: Engine, written: Path) -> None:
    out = []
    for text in [*attempts(QUERIES), *(f"select {text} as x from flow" for text in attempts(EXPRESSIONS))]:
        try:
            told = str(engine._connection.execute(text).fetchall())
        except duckdb.Error:
            continue
        if CANARY in told:
            out.append(text)
    assert out == []
    assert list(written.parent.iterdir()) == []


async def test_the_kernel_alone_lets_none_out(attempts: Any, tmp_path: Path, written: Path) -> None:
    """The engine's own doors are open: it may say what it knows, but there is nothing it can reach."""
    spill = tmp_path / "spill"
    spill.mkdir()
    texts = [*attempts(QUERIES), *(f"select {text} as x from flow" for text in attempts(EXPRESSIONS))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _BARE, str(spill), env={},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate(json.dumps(texts).encode())
    assert said.decode().strip() == f"tried {len(texts)}"
    assert list(written.parent.iterdir()) == []


def _both_read(text: str, engine: Engine) -> None:
    expressions.check_expression(text)
    guard.check_expression(engine, f"SELECT (\n{text}\n)", PLACE)
