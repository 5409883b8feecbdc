"""Bombs: they end within their limit and a second, with the right code; the host and its neighbours go on."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox import lockdown
from dataaggregator.dataplane.sandbox.messages import Rows
from dataaggregator.errors import PlatformError
from tests.integration.sandbox.conftest import Spent

pytestmark = pytest.mark.security

MEMORY = 512 << 20
LIMIT_SECONDS = 3
LOOP_SECONDS = 1
STARTING_SECONDS = 3  # importing the engines, before the limit counts


@pytest.mark.parametrize(
    "steps",
    [
        [{"derive": {"x": "repeat('x', 2000000000)"}}],
        [{"derive": {"x": "repeat(name, 2000000000 + id::INTEGER)"}}],
        [{"derive": {"x": "list_sum(range(0, 2000000000 + id))"}}],
        [{"sql": "select list(a.range) as l from range(400000000) a"}],
        [{"sql": "select string_agg(repeat('x', 1000000), '') as s from range(100000)"}],
        [{"sql": "select unnest(range(2000000000)) as n from flow"}],
    ],
)
async def test_a_memory_bomb_ends_in_its_limit(run: Any, neighbour: None, steps: Any) -> None:
    spent = Spent()
    with pytest.raises(PlatformError) as caught:
        await run(steps, memory_bytes=MEMORY, cpu_seconds=LIMIT_SECONDS, spent=spent)
    # A bomb that grows slowly meets the other limit first.
    assert caught.value.code in ("sandbox-memory", "sandbox-timeout"), caught.value
    assert 0 < spent.seconds < STARTING_SECONDS + LIMIT_SECONDS + 1


@pytest.mark.parametrize(
    "steps",
    [
        [{"sql": "select count(*) as n from range(1000000000) a, range(1000000000) b where hash(a, b) = 7"}],
        [{"sql": "with recursive r(n) as (select 1 union all select (n + 1) % 7 from r) select max(n) as n from r"}],
        [{"derive": {"x": "list_sum(list_transform(range(100000000), lambda i: hash(i + id) % 3))"}}],
    ],
)
async def test_an_endless_loop_ends_in_its_limit(run: Any, neighbour: None, steps: Any) -> None:
    spent = Spent()
    with pytest.raises(PlatformError) as caught:
        await run(steps, memory_bytes=8 << 30, cpu_seconds=LOOP_SECONDS, spent=spent)
    assert caught.value.code == "sandbox-timeout", caught.value
    assert LOOP_SECONDS <= spent.seconds < STARTING_SECONDS + LOOP_SECONDS + 1


async def test_answers_start_the_processor_time_again(run: Any) -> None:
    flow = pa.table({"id": range(1_500_000)})
    heavy = "list_sum(list_transform(range(10), lambda i: hash(i + id) % 3))"
    ran = await run([{"derive": {"x": heavy}}], flow, cpu_seconds=2)
    assert sum(m.batch.num_rows for m in ran.messages if isinstance(m, Rows)) == 1_500_000


async def test_the_spill_folder_has_its_limit(run: Any, neighbour: None) -> None:
    flow = pa.table({"id": range(1_500_000), "text": ["a text that is not very short at all"] * 1_500_000})
    with pytest.raises(PlatformError) as caught:
        await run(
            [{"sql": "select * from flow order by hash(id), text"}], flow, memory_bytes=128 << 20, spill_bytes=8 << 20
        )
    assert caught.value.code in ("sandbox-disk", "sandbox-memory"), caught.value


WIDE = pa.table(
    {"id": range(400_000), **{f"c{n}": ["some text of forty letters, in each column"] * 400_000 for n in "abcdefghij"}}
)


async def test_rows_need_not_fit_into_memory_to_be_deduped(run: Any) -> None:
    memory = 192 << 20
    assert WIDE.nbytes + pa.total_allocated_bytes() > memory
    ran = await run([{"dedupe": {"key": ["id"]}}], WIDE, memory_bytes=memory)
    assert sum(m.batch.num_rows for m in ran.messages if isinstance(m, Rows)) == WIDE.num_rows


@pytest.mark.parametrize(("steps", "spill_bytes"), [(1, 2 << 20), (2, 10 << 20)], ids=["one file", "all together"])
async def test_rows_that_wait_for_their_turn_have_the_spill_folder_s_limit(
    run: Any, steps: int, spill_bytes: int
) -> None:
    unlike = pa.table({"id": range(400_000), "text": [f"{n * 7919 % 1000003} {n}" for n in range(400_000)]})
    with pytest.raises(PlatformError) as caught:
        await run([{"dedupe": {"key": ["id"]}}] * steps, unlike, spill_bytes=spill_bytes)
    assert caught.value.code == "sandbox-disk", caught.value


async def test_a_sandbox_at_rest_has_the_memory_that_was_promised_before_it(run: Any) -> None:
    ran = await run([{"filter": "id = 2"}], memory_bytes=MEMORY)
    lines = await asyncio.to_thread(Path(f"/proc/{ran.sandbox.pid}/status").read_text)
    held = next(int(line.split()[1]) << 10 for line in lines.splitlines() if line.startswith("VmData:"))
    assert held < lockdown.IDLE_PRIVATE_BYTES


async def test_the_next_sandbox_is_unharmed(run: Any, tmp_path: Path) -> None:
    with pytest.raises(PlatformError):
        await run([{"derive": {"x": "repeat('x', 2000000000)"}}], memory_bytes=MEMORY, cpu_seconds=1)
    ran = await run([{"filter": "id = 2"}])
    assert [m.batch.num_rows for m in ran.messages if isinstance(m, Rows)] == [1]


def limits_of(pid: int) -> dict[str, str]:
    """The soft limits of a process as the kernel shows them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:].split()[0] for line in lines}


async def test_the_kernel_was_told_every_limit(start: Any) -> None:
    """Each by itself: one limit that is missing may hide behind another in a test with a bomb."""
    sandbox = await start(memory_bytes=MEMORY, cpu_seconds=LIMIT_SECONDS, spill_bytes=1 << 20)
    limits = limits_of(sandbox.pid)
    assert int(limits["Max data size"]) == MEMORY + lockdown.IDLE_PRIVATE_BYTES
    assert int(limits["Max address space"]) == MEMORY + lockdown.IDLE_ADDRESS_BYTES
    assert int(limits["Max file size"]) == 1 << 20
    assert int(limits["Max cpu time"]) >= LIMIT_SECONDS
    assert (limits["Max core file size"], limits["Max locked memory"]) == ("0", "0")
    assert int(limits["Max open files"]) == lockdown.OPEN_FILES
