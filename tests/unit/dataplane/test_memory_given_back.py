"""What lies free in a process goes back to the system where other work begins: after reading, and before an engine."""

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.connector.source import ReadRequest
from dataaggregator.contracts.steps import AggregateStep
from dataaggregator.dataplane.allocators import FRUGAL, give_back
from dataaggregator.dataplane.batch import Batch
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.flow import Flow, Reader
from dataaggregator.dataplane.sandbox.messages import Rejected
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.dataplane.steps.gathered import Gathered
from dataaggregator.dataplane.steps.node import Graph, NodeSpec
from dataaggregator.dataplane.tally import Tally

from .steps.conftest import portions_of

MIB = 1024 * 1024
BLOCK = 32 * 1024
"""Below what the allocator maps by itself, so that a freed one stays with it."""
LEFT = 64 * MIB
ROWS = pa.record_batch({"n": pa.array(range(1000), pa.int64())})
ONE_KEY = pa.record_batch({"n": pa.array([7] * 1000, pa.int64())})
_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def leave() -> Iterator[Callable[[], int]]:
    """Leaves 64 MiB of freed blocks behind, with a used one above them; answers how much memory we have then."""
    kept: list[int] = []

    def behind() -> int:
        blocks = [_libc.malloc(BLOCK) for _ in range(LEFT // BLOCK)]
        for block in blocks:
            ctypes.memset(block, 1, BLOCK)
        kept.append(_libc.malloc(BLOCK))
        for block in blocks:
            _libc.free(block)
        return resident()

    yield behind
    for block in kept:
        _libc.free(block)


def test_what_lies_free_below_something_used_goes_back(leave: Callable[[], int]) -> None:
    before = leave()
    give_back()
    assert before - resident() > LEFT * 3 // 4


AS_A_PROCESS_OF_A_RUN = """
import ctypes, os, threading
from pathlib import Path

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

libc.free(libc.malloc(24 << 20))  # glibc would take from this how much may lie free
before = resident()
block = libc.malloc(20 << 20)
ctypes.memset(block, 1, 20 << 20)
libc.free(block)
kept = resident() - before
small = libc.malloc(3 << 20)
ctypes.memset(small, 1, 3 << 20)
libc.free(small)
kept_of_small = resident() - before
found = []
thread = threading.Thread(target=lambda: found.append(libc.malloc(1 << 16)))
thread.start()
thread.join()
heap = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]"))
first, last = (int(bound, 16) for bound in heap.split()[0].split("-"))
print(kept, kept_of_small, *(first <= one < last for one in (found[0], block)))
"""


AS_ARROW_OF_A_RUN = """
import os
from pathlib import Path
import pyarrow as pa
from dataaggregator.dataplane.allocators import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

buffers = [pa.array(range(1 << 16), pa.int64()) for _ in range(128)]
buffers.clear()
before = resident()
give_back()
print(before - resident())
"""


def test_a_process_of_a_run_keeps_little_of_what_it_has_freed_and_has_one_heap() -> None:
    """It keeps what the next batch needs again, and batches have no mappings of their own: that would be slow."""
    words = [sys.executable, "-c", AS_A_PROCESS_OF_A_RUN]
    told = subprocess.run(words, env=FRUGAL, check=True, capture_output=True, text=True).stdout.split()
    assert int(told[0]) < 8 * MIB
    assert int(told[1]) > 2 * MIB
    assert told[2:] == ["True", "True"]


def test_what_arrow_keeps_of_freed_batches_goes_back() -> None:
    words = [sys.executable, "-c", AS_ARROW_OF_A_RUN]
    told = subprocess.run(words, env=FRUGAL, check=True, capture_output=True, text=True).stdout
    assert int(told) > LEFT // 2


class Quiet:
    """Takes what comes out of a graph."""

    def rows(self, node: str, batch: pa.RecordBatch) -> None: ...

    def rejected(self, message: Rejected) -> None: ...

    def passed(self, stage: str, batch: pa.RecordBatch) -> None: ...


def test_an_engine_begins_with_what_the_rows_needed_on_their_way_in(leave: Callable[[], int], tmp_path: Path) -> None:
    step = AggregateStep.model_validate({"aggregate": {"by": [], "measures": {"total": "sum(n)"}}})
    spec = NodeSpec("t", ("flow",), (step,), ("t[0]",))
    engine = Engine(1 << 30, tmp_path, 1 << 30)
    graph = Graph([spec], {"flow": ROWS.schema}, engine, {}, Quiet())
    graph.push("flow", ROWS)
    engine.give_back()  # a moment ago: the engine alone would give nothing back again so soon
    before = leave()
    graph.finish("flow")
    assert before - resident() > LEFT // 2


def test_what_an_engine_is_done_with_goes_back(tmp_path: Path) -> None:
    engine, place = Engine(1 << 30, tmp_path, 1 << 30), Place("t", "steps[0]")
    rows = pa.record_batch({"n": range(100_000), "text": [f"a text that no other row has {n}" for n in range(100_000)]})
    table = engine.table(rows.schema)
    for _ in range(8):
        engine.append(table, rows, place)
    assert engine.row(f"SELECT count(*) FROM (SELECT n, max(text) FROM {table} GROUP BY n)", place) == (100_000,)
    engine.empty(table)
    give_back()
    before = resident()
    engine.give_back()
    assert before - resident() > 16 * MIB


PORTION = 16_000
"""Bytes: two batches of ROWS."""


def gathered(folder: Path, batches: Iterable[pa.RecordBatch]) -> tuple[Gathered, Engine]:
    gc.collect()  # the engines of other tests: one that idles gives back what lies free, whoever left it
    engine = Engine(1 << 30, folder, 1 << 30)
    found = Gathered(Setting(engine, "t", "t[0]", "steps[0]", {}), {"rows": ROWS.schema})
    found.part_by({"rows": ["n"]})
    for rows in batches:
        found.add("rows", rows)
    return found, engine


def test_a_portion_begins_without_what_the_one_before_it_needed_and_the_last_leaves_nothing(
    leave: Callable[[], int], tmp_path: Path
) -> None:
    with portions_of(PORTION):
        rows, _ = gathered(tmp_path, [ROWS] * 8)
        held = [0]
        for _ in rows.portions():
            assert held[-1] == 0 or held[-1] - resident() > LEFT // 2
            held.append(leave())
    assert held[-1] - resident() > LEFT // 2
    assert len(held) > 3


def test_the_portions_of_a_part_begin_without_what_parting_it_needed(leave: Callable[[], int], tmp_path: Path) -> None:
    with portions_of(PORTION):
        rows, engine = gathered(tmp_path, [ROWS, *[ONE_KEY] * 4])
        engine.give_back()  # a moment ago: the engine alone would give nothing back again so soon
        before = leave()
        next(rows.portions())
    assert before - resident() > LEFT // 2


class Source:
    """Gives so many bytes in batches of one MiB, and then what it has left behind."""

    def __init__(self, size: int, leave: Callable[[], int]) -> None:
        self._size, self._leave = size, leave
        self.left = 0

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        rows = pa.record_batch({"n": pa.array(range(MIB // 8), pa.int64())})
        for _ in range(self._size // MIB):
            yield Batch(rows, rows.num_rows)
        self.left = self._leave()


class Gone:
    """Takes rows and keeps none; nothing is set aside."""

    async def write(self, batch: pa.RecordBatch) -> None: ...

    def add_unreadable(self, stage: str, rejected: object) -> None: ...

    def add_refused(self, stage: str, rule: str, reason: str, rows: pa.RecordBatch) -> None: ...


@pytest.mark.parametrize(("size", "much"), [(32 * MIB, True), (MIB, False)])
async def test_a_source_that_gave_much_leaves_nothing_behind(leave: Callable[[], int], size: int, much: bool) -> None:
    """After a small one it is not worth its milliseconds."""
    source = Source(size, leave)
    plan = Plan((SourceNode("a"),), (), (DestinationNode(0, "a"),))
    outlets: Mapping[str, Any] = {"a": ("there", Gone())}
    readers = {"a": Reader("a", source, ReadRequest())}
    await Flow(plan, readers, outlets, Tally(), Gone(), Failpoints()).run()
    assert (source.left - resident() > LEFT // 2) is much
