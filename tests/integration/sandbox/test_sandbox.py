"""The sandbox process at work: rows in, rows and counts out, errors told as they are."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.plan import TransformNode
from dataaggregator.dataplane.sandbox import wire
from dataaggregator.dataplane.sandbox.messages import Done, Rejected, Rows, Sample, StageCounts
from dataaggregator.errors import Invalid, Permanent


async def test_rows_rejected_rows_and_counts_come_out(run: Any) -> None:
    steps = [{"filter": "id > 1"}, {"validate": [{"rule": "no-c", "check": "name <> 'c'"}]}]
    ran = await run(steps)
    rows = [m.batch.to_pylist() for m in ran.messages if isinstance(m, Rows)]
    refused = [m for m in ran.messages if isinstance(m, Rejected)]
    counts = {m.stage: m for m in ran.messages if isinstance(m, StageCounts)}
    assert rows == [[{"id": 2, "name": "b"}]]
    assert [(m.rule, m.rows.to_pylist()) for m in refused] == [("no-c", [{"id": 3, "name": "c"}])]
    assert (counts["t[1].validate"].read, counts["t[1].validate"].rejected) == (2, {"no-c": 1})
    assert isinstance(ran.messages[-1], Done)


async def test_a_key_to_mask_with_goes_in_only_where_a_step_hashes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    send = wire.send_async

    async def overheard(end: socket.socket, header: Any, body: Any = b"") -> None:
        sent.append(json.dumps(header))
        await send(end, header, body)

    monkeypatch.setattr(wire, "send_async", overheard)
    key = "0f" * 32
    for way, goes_in in (("redact", False), ("hash", True)):
        sent.clear()
        ran = await run([{"mask": {"name": way}}], load={"mask_key": key})
        (names,) = [m.batch.column("name").to_pylist() for m in ran.messages if isinstance(m, Rows)]
        assert len(set(names)) == (3 if goes_in else 1)
        assert any(key in header for header in sent) is goes_in


SUBQUERY = "select count(*) as n, (select count(*) from b) as m from clean"


async def test_transformations_feed_each_other_and_only_wanted_rows_come_out(start: Any) -> None:
    step = TypeAdapter(Step).validate_python
    nodes = [
        TransformNode("clean", ("a",), (step({"filter": "id > 1"}),)),
        TransformNode("total", ("clean", "b"), (step({"sql": SUBQUERY}),)),
    ]  # fmt: skip
    table = pa.table({"id": [1, 2, 3]})
    sandbox = await start()
    schemas = await sandbox.load(nodes, {"a": table.schema, "b": table.schema}, ["total"])
    assert schemas["total"].names == ["n", "m"]
    assert set(sandbox.stage_schemas) == {"clean[0].filter", "total[0].sql"}
    for name in ("a", "b"):
        await sandbox.push(name, table.to_batches()[0])
        await sandbox.finish(name)
    out = [m async for m in sandbox.outputs()]
    assert [(m.node, m.batch.to_pylist()) for m in out if isinstance(m, Rows)] == [("total", [{"n": 2, "m": 3}])]


async def test_sources_that_push_at_the_same_time_do_not_mix_their_bytes(start: Any) -> None:
    step = TypeAdapter(Step).validate_python
    texts = pa.table({"text": [f"{n:>064}" for n in range(60_000)]}).to_batches()[0]
    numbers = pa.table({"n": list(range(480_000))}).to_batches()[0]
    nodes = [
        TransformNode("x", ("texts",), (step({"filter": "length(text) = 64"}),)),
        TransformNode("y", ("numbers",), (step({"filter": "n >= 0"}),)),
    ]
    sandbox = await start()
    await sandbox.load(nodes, {"texts": texts.schema, "numbers": numbers.schema}, ["x", "y"])

    async def feed(name: str, batch: pa.RecordBatch) -> None:
        for _ in range(5):
            await sandbox.push(name, batch)
        await sandbox.finish(name)

    feeding = asyncio.gather(feed("texts", texts), feed("numbers", numbers))
    out = [m async for m in sandbox.outputs()]
    await feeding
    for node, sent in (("x", texts), ("y", numbers)):
        came = [m.batch for m in out if isinstance(m, Rows) and m.node == node]
        assert pa.Table.from_batches(came).equals(pa.Table.from_batches([sent] * 5))


async def test_what_does_not_bind_is_invalid_with_its_place(run: Any) -> None:
    with pytest.raises(Invalid) as caught:
        await run([{"derive": {"x": "id +\n nothing"}}])
    assert caught.value.errors[0].field == "steps[0].derive.x"
    assert caught.value.errors[0].message.startswith("line 2, column 2")


async def test_an_error_on_a_row_reaches_whoever_takes_the_outputs(run: Any) -> None:
    flow = pa.table({"id": range(300_000), "name": ["x"] * 300_000})
    with pytest.raises(Invalid) as caught:
        await run([{"derive": {"x": "name::INTEGER"}}], flow)
    assert caught.value.code == "expression-failed"


async def test_samples_show_the_first_rows_of_each_stage(run: Any) -> None:
    ran = await run([{"filter": "id > 1"}, {"derive": {"x": "id"}}], load={"samples": 1})
    samples = {m.stage: m.batch.to_pylist() for m in ran.messages if isinstance(m, Sample)}
    assert samples == {"t[0].filter": [{"id": 2, "name": "b"}], "t[1].derive": [{"id": 2, "name": "b", "x": 2}]}


async def test_a_set_wise_step_spills_what_its_memory_cannot_hold(run: Any) -> None:
    n = 1_500_000
    flow = pa.table({"id": range(n), "text": pa.array([f"a text of some length, {i % 1000}" for i in range(n)])})
    ran = await run([{"sql": "select * from flow order by text, id"}], flow, memory_bytes=256 << 20)
    assert sum(m.batch.num_rows for m in ran.messages if isinstance(m, Rows)) == n


async def test_a_dedupe_spills_too_and_still_keeps_the_first_as_read(run: Any) -> None:
    n = 500_000
    flow = pa.table({"k": [i % 300_000 for i in range(n)], "text": [f"{i:>200}" for i in range(n)]})
    ran = await run([{"dedupe": {"key": ["k"]}}], flow, memory_bytes=128 << 20)
    rows = pa.Table.from_batches([m.batch for m in ran.messages if isinstance(m, Rows)])
    assert rows.equals(flow.slice(0, 300_000))


async def test_a_killed_sandbox_says_so_to_both_sides(start: Any) -> None:
    sandbox = await start()
    await sandbox.load([], {"flow": pa.schema([("id", pa.int64())])}, [])
    os.kill(sandbox.pid, signal.SIGKILL)
    with pytest.raises(Permanent, match="SIGKILL") as caught:
        async for _ in sandbox.outputs():
            pass
    assert caught.value.code == "sandbox-killed"
    batch = pa.record_batch({"id": range(1_000_000)})
    with pytest.raises(Permanent, match="SIGKILL"):
        await sandbox.push("flow", batch)


async def test_closing_ends_the_process(start: Any) -> None:
    sandbox = await start()
    await sandbox.close()
    assert not _alive(sandbox.pid)


async def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """The host is killed while the sandbox computes and reads no wire."""
    code = f"""
import asyncio, pathlib, sys
import pyarrow as pa
from pydantic import TypeAdapter
from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.plan import TransformNode
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from dataaggregator.dataplane.sandbox.spawning import SandboxTemplates
async def main():
    at = pathlib.Path({str(tmp_path)!r})
    sandbox = await Sandbox.start(SandboxLimits(at), SandboxTemplates(at).forks)
    step = TypeAdapter(Step).validate_python({{"sql": "select count(*) n from range(1000000000) a, range(1000000) b"}})
    schema = pa.schema([("id", pa.int64())])
    await sandbox.load([TransformNode("t", ("flow",), (step,))], {{"flow": schema}}, ["t"])
    await sandbox.finish("flow")
    print(sandbox.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert host.stdout is not None
    async with asyncio.timeout(30):
        pid = int(await host.stdout.readline())
    host.kill()
    await host.wait()
    async with asyncio.timeout(10):
        while _alive(pid):  # noqa: ASYNC110 (another process gives no event)
            await asyncio.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
