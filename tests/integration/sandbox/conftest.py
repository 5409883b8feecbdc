"""Real sandbox processes, one a test, ended with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.plan import TransformNode
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.sandbox.messages import Output, Rows, SandboxLimits
from dataaggregator.dataplane.sandbox.processor import used_seconds
from dataaggregator.dataplane.sandbox.spawning import SandboxTemplates
from tests.integration.sandbox.pythons import PythonSteps

_STEP: TypeAdapter[Step] = TypeAdapter(Step)
FLOW = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
WATCH_SECONDS = 0.05


class Spent:
    """The processor time a sandbox used: its own, whatever other processes of the test run end meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self, pid: int) -> None:
        """Until the process is gone."""
        with suppress(ProcessLookupError):
            while True:
                self.seconds = used_seconds(pid)
                await asyncio.sleep(WATCH_SECONDS)


@dataclass
class Ran:
    """A sandbox and what came out of it."""

    sandbox: Sandbox
    messages: list[Output] = field(default_factory=list)


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture(scope="session")
async def templates(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxTemplates]:
    """The same for all tests, as an executor's are for all runs."""
    templates = SandboxTemplates(tmp_path_factory.mktemp("templates"))
    yield templates
    await templates.close()


@pytest.fixture
async def start(tmp_path: Path, templates: SandboxTemplates) -> AsyncIterator[Callable[..., Awaitable[Sandbox]]]:
    """`start(memory_bytes=…, cpu_seconds=…)` gives a warm sandbox."""
    started: list[Sandbox] = []

    async def begin(**limits: Any) -> Sandbox:
        sandbox = await Sandbox.start(SandboxLimits(tmp_path / f"spill{len(started)}", **limits), templates.forks)
        started.append(sandbox)
        return sandbox

    yield begin
    for sandbox in started:
        await sandbox.close()


@pytest.fixture
def run(start: Callable[..., Awaitable[Sandbox]]) -> Run:
    """`run(steps, flow)`: one transformation from start to Done; errors are raised."""

    async def through(
        steps: Sequence[Mapping[str, Any]],
        flow: pa.Table = FLOW,
        *,
        load: Mapping[str, Any] | None = None,
        spent: Spent | None = None,
        **limits: Any,
    ) -> Ran:
        ran = Ran(await start(**limits))
        aside: list[asyncio.Task[None]] = []
        if spent is not None:
            aside.append(asyncio.create_task(spent.watch(ran.sandbox.pid)))

        async def feed() -> None:
            for batch in flow.to_batches(max_chunksize=65_536):
                await ran.sandbox.push("flow", batch)
            await ran.sandbox.finish("flow")

        try:
            await ran.sandbox.load([_node(steps)], {"flow": flow.schema}, ["t"], **(load or {}))
            feeding = asyncio.create_task(feed())
            aside.append(feeding)
            async for message in ran.sandbox.outputs():
                ran.messages.append(message)
            await feeding
        finally:
            for task in aside:
                task.cancel()
        return ran

    return through


@pytest.fixture
async def neighbour(start: Callable[..., Awaitable[Sandbox]]) -> AsyncIterator[None]:
    """Another workspace's run, in the middle of its work while a bomb goes off: it comes to its own end."""
    sandbox = await start()
    await sandbox.load([_node([{"filter": "id > 1"}])], {"flow": FLOW.schema}, ["t"])
    (batch,) = FLOW.to_batches()
    await sandbox.push("flow", batch)
    yield
    await sandbox.push("flow", batch)
    await sandbox.finish("flow")
    rows = [row async for told in sandbox.outputs() if isinstance(told, Rows) for row in told.batch["id"].to_pylist()]
    assert rows == [2, 3, 2, 3]


def _node(steps: Sequence[Mapping[str, Any]]) -> TransformNode:
    return TransformNode("t", ("flow",), tuple(_STEP.validate_python(step) for step in steps))


@pytest.fixture(scope="module")
def python_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonSteps]:
    """`python_steps(steps, flow)`: steps at work here, their Python in one locked process for all tests of a file."""
    steps = PythonSteps(tmp_path_factory.mktemp("steps"))
    yield steps
    steps.close()
