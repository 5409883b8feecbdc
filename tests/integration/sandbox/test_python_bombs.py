"""Bombs in Python: each ends within its limit and a second, is told as what it was, and harms no neighbour."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox import lockdown
from dataaggregator.dataplane.sandbox.answers import PYTHON_LOST
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from dataaggregator.errors import PlatformError
from tests.integration.sandbox.neighbour import AT_WORK
from tests.integration.sandbox.pythons import PythonSteps, at_work, python
from tests.integration.sandbox.test_limits import limits_of
from tests.security import tried

pytestmark = pytest.mark.security

ROOT = Path(__file__).parents[3]
FLOW = pa.table({"id": [1, 2, 3]})
LIMIT_SECONDS = 1
LATE_SECONDS = 0.5  # until the kernel looks, and has taken all back
LIMITS: dict[str, Any] = {
    "memory_bytes": 192 << 20,
    "cpu_seconds": LIMIT_SECONDS,
    "spill_bytes": 32 << 20,
    "python_seconds": 10,  # the limit of processor time comes first, also where cores are shared
}
HANDLER = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"

MEMORY = {
    "one large object": "bytearray(1 << 40)",
    "one that is written": "x = bytearray(3 << 30)",
    "a doubling text": "x = 'x'\nwhile True:\n    x += x",
    "a growing list": "x = []\nwhile True:\n    x.append(bytes(1 << 20))",
    "a formatted number": "x = '{:>9999999999}'.format(1)",
    "an Arrow buffer": "x = pa.allocate_buffer(1 << 40)",
    "zlib": (
        "import zlib\nz = zlib.compressobj(1)\n"
        "small = b''.join(z.compress(bytes(1 << 20)) for _ in range(800)) + z.flush()\nx = zlib.decompress(small)"
    ),
    "a cartesian product": (
        "k = pa.array([1] * 60_000)\nx = pa.table({'k': k, 'a': k}).join(pa.table({'k': k, 'b': k}), 'k')"
    ),
    "rows without bytes": "return pa.table({'id': pa.nulls(10**12)})",
}
TIME = {
    "a loop": "while True:\n    pass",
    "a loop in C": "import collections, itertools\ncollections.deque(itertools.repeat(0), maxlen=0)",
    "a large power": "x = 10 ** (10 ** 8)",
    "a pattern": "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
    "a loop that hears no signal": HANDLER + "while True:\n    pass",
    "a loop that hears nothing": (
        HANDLER + "while True:\n    try:\n        x = bytearray(1 << 40)\n    except BaseException:\n        pass"
    ),
    "printing": "while True:\n    print('x' * 1000)",
    "printing past Python": "import os\nwhile True:\n    os.write(2, b'x' * 4096)\n    os.write(1, b'x' * 4096)",
    "catching everything": (
        "while True:\n    try:\n        raise KeyboardInterrupt\n    except BaseException:\n        pass"
    ),
    "a loop while it is loaded": "LOAD",
}
WAITING = {
    "a long sleep": "import time\ntime.sleep(10**6)",
    "a stopped process": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "a lock": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "a wire that drips": (
        "import os, stat, time\n"
        "def is_wire(fd):\n"
        "    try:\n        return stat.S_ISSOCK(os.fstat(fd).st_mode)\n    except OSError:\n        return False\n"
        "fd = next(fd for fd in range(3, 64) if is_wire(fd))\n"
        "os.write(fd, (1000).to_bytes(4, 'big') + bytes(8))\n"
        "while True:\n    os.write(fd, b' ')\n    time.sleep(0.5)"
    ),
}
REFUSED = {
    "forks": "import os\nwhile True:\n    os.fork()",
    "threads": "import threading\nwhile True:\n    threading.Thread(target=input).start()",
    "descriptors": "import os\nx = []\nwhile True:\n    x.append(os.pipe())",
    "anonymous pages": "import mmap\nx = [mmap.mmap(-1, 1 << 30) for _ in range(99)]",
    "calls without end": "def f():\n    return f()\nf()",
    "a deep text": "import json\njson.loads('[' * 10**6)",
    "a long message": "raise ValueError('x' * 10**7)",
    "a number of many digits": "x = int('9' * 10**6)",
    "an end of its own": "raise SystemExit",
    "a full disk": "open('/tmp/bomb', 'w').write('x' * 10**9)",
}
BROKEN = {
    "calls deeper than the stack": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass X:\n    def __repr__(self):\n"
        "        return repr(self)\nrepr(X())"
    ),
    "an address of nobody's": "import ctypes\nctypes.string_at(1)",
    "an abort": "import os\nos.abort()",
    "an end at once": "import os\nos._exit(0)",
}


@pytest.fixture(scope="module", autouse=True)
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Another workspace's run, at work all the time. No thread: Python 3.11 fails where two parse at once."""
    command = [sys.executable, "-m", "tests.integration.sandbox.neighbour", str(tmp_path_factory.mktemp("neighbour"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == AT_WORK
        yield
        said, _ = process.communicate()
    told = json.loads(said)
    assert told["harm"] == []
    assert told["done"] > 1


@pytest.fixture
def bombed(tmp_path: Path) -> Iterator[PythonSteps]:
    steps = PythonSteps(tmp_path, SandboxLimits(tmp_path, **LIMITS))
    yield steps
    steps.close()


def explode(steps: PythonSteps, body: str) -> tuple[PlatformError, float]:
    """How it ended, and the processor time its process took in all."""
    step: dict[str, Any] = python(f"{body}\nreturn rows", schema={"id": "bigint"})
    if body == "LOAD":
        step["python"] = "while True:\n    pass\ndef transform(rows):\n    return rows"
    with pytest.raises(PlatformError) as caught:
        steps([step], FLOW)
    steps.stop()
    return caught.value, steps.spent


@pytest.mark.parametrize("name", tried(MEMORY))
def test_a_bomb_of_memory_ends_in_its_limit(bombed: PythonSteps, name: str) -> None:
    error, spent = explode(bombed, MEMORY[name])
    # One that grows slowly meets the limit of time first; an engine may break down where it gets no more.
    assert error.code in ("sandbox-memory", "sandbox-output", PYTHON_LOST), error
    assert spent < LATE_SECONDS + LIMIT_SECONDS + 1


@pytest.mark.parametrize("name", tried(TIME))
def test_a_bomb_of_time_ends_in_its_limit(bombed: PythonSteps, name: str) -> None:
    error, spent = explode(bombed, TIME[name])
    assert error.code in (PYTHON_LOST, "sandbox-memory"), error
    assert spent < LATE_SECONDS + LIMIT_SECONDS + 1


@pytest.mark.parametrize("name", tried(WAITING))
def test_what_waits_for_ever_is_waited_for_no_longer_than_its_limit(tmp_path: Path, name: str) -> None:
    with closing(PythonSteps(tmp_path, SandboxLimits(tmp_path, **{**LIMITS, "python_seconds": 1}))) as steps:
        steps([python("return rows")], FLOW)
        began = time.monotonic()
        error, _ = explode(steps, WAITING[name])
    assert (error.code, "gave no answer within 1 s" in error.detail) == ("sandbox-timeout", True)
    assert time.monotonic() - began < 1 + 1


@pytest.mark.parametrize("name", tried(REFUSED))
def test_what_would_spread_is_refused_and_the_process_goes_on(bombed: PythonSteps, name: str) -> None:
    step = python(at_work(REFUSED[name]))
    with pytest.raises(PlatformError) as caught:
        bombed([step], FLOW)
    assert caught.value.code == "python-failed"
    assert len(caught.value.detail) < 5_000
    assert len(bombed([python("return rows.slice(0, 1)")], FLOW).values) == 1
    assert bombed.starts == 1


@pytest.mark.parametrize("name", tried(BROKEN))
def test_a_process_that_breaks_takes_nothing_with_it(bombed: PythonSteps, name: str) -> None:
    error, spent = explode(bombed, BROKEN[name])
    assert error.code == PYTHON_LOST
    assert spent < LATE_SECONDS + LIMIT_SECONDS + 1


DEATHS = {
    "while True:\n    pass": ("sandbox-timeout", "used 1 s of processor time"),
    BROKEN["calls deeper than the stack"]: ("sandbox-memory", "calls itself without end"),
    "bytearray(1 << 40)": ("sandbox-memory", "more memory"),
    BROKEN["an end at once"]: ("sandbox-killed", "ended by itself with status 0"),
}


@pytest.mark.parametrize("body", DEATHS, ids=[code for code, _ in DEATHS.values()])
async def test_who_runs_it_tells_the_step_and_why_it_ended(run: Any, body: str) -> None:
    step = python(at_work(body), schema={"id": "bigint"})
    code, told = DEATHS[body]
    with pytest.raises(PlatformError) as caught:
        await run([{"filter": "id > 0"}, step], FLOW, **{**LIMITS, "memory_bytes": 512 << 20})
    assert caught.value.code == code, caught.value
    assert caught.value.detail.startswith("t[1].python: ")
    assert told in caught.value.detail


def test_rows_that_share_their_bytes_are_counted_at_their_length(bombed: PythonSteps) -> None:
    """In its own process they are small: it is the other side that says enough."""
    error, _ = explode(bombed, "return pa.concat_tables([pa.table({'id': [1] * 1_000_000})] * 100_000)")
    assert error.code == "sandbox-output"
    assert "t[0]: transform gave more than 32 MiB of rows" in error.detail


def test_the_kernel_was_told_every_limit(bombed: PythonSteps) -> None:
    """Each by itself: one limit that is missing may hide behind another in a test with a bomb."""
    bombed([python("return rows")], FLOW)
    limits = limits_of(bombed.pid)
    assert int(limits["Max data size"]) == LIMITS["memory_bytes"] + lockdown.IDLE_PRIVATE_BYTES
    assert int(limits["Max address space"]) == LIMITS["memory_bytes"] + lockdown.IDLE_ADDRESS_BYTES
    assert (limits["Max file size"], limits["Max core file size"], limits["Max locked memory"]) == ("0", "0", "0")
    assert (int(limits["Max cpu time"]), int(limits["Max open files"])) == (LIMIT_SECONDS, 64)
