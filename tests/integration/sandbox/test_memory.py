"""What a sandbox holds does not grow with the rows: beyond a little it is in its spill folder."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.plan import TransformNode
from dataaggregator.dataplane.sandbox.messages import Rows

BATCH_ROWS = 50_000
SCHEMA = pa.table({"id": [1], "text": ["a"]}).schema
STEPS: TypeAdapter[Step] = TypeAdapter(Step)
MOST_BYTES = 195 << 20
"""Libraries and all; where the engine spills by itself within its 64 MiB the same work takes more."""
OTHER = pa.table({"id": [1], "name": ["a"]}).schema


def batches(rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for at in range(0, rows, BATCH_ROWS):
        texts = [f"a text that no other row has {n}" for n in range(at, at + BATCH_ROWS)]
        yield pa.RecordBatch.from_arrays([pa.array(range(at, at + BATCH_ROWS)), pa.array(texts)], schema=schema)


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def spilled_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize(
    "step",
    [
        {"dedupe": {"key": ["id"], "keep": "last"}},
        {"aggregate": {"by": ["id"], "measures": {"last": "max(text)"}}},
        {"join": {"with": "other", "on": ["id"], "how": "full"}},
    ],
    ids=["dedupe", "aggregate", "join"],
)
async def test_a_sandbox_spills_and_stays_small(start: Any, tmp_path: Path, step: dict[str, Any]) -> None:
    rows, given, spilled = 2_000_000, 0, 0
    sandbox = await start()
    inputs = {"flow": SCHEMA, "other": OTHER} if "join" in step else {"flow": SCHEMA}
    await sandbox.load([TransformNode("t", tuple(inputs), (STEPS.validate_python(step),))], inputs, ["t"])

    async def feed() -> None:
        nonlocal spilled
        for name, schema in reversed(inputs.items()):
            for batch in batches(rows, schema):
                await sandbox.push(name, batch)
            spilled = await asyncio.to_thread(spilled_bytes, tmp_path / "spill0")
            await sandbox.finish(name)

    feeding = asyncio.create_task(feed())
    async for message in sandbox.outputs():
        given += message.batch.num_rows if isinstance(message, Rows) else 0
    await feeding
    assert given == rows
    assert spilled > 10 << 20
    assert await asyncio.to_thread(peak_bytes, sandbox.pid) < MOST_BYTES
