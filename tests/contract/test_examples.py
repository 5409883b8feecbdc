"""The examples of a subscriber, run as their page says, while the platform's own adapter publishes."""

import ast
import asyncio
import os
import re
import secrets
import shlex
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest

from dataaggregator.bus import emit, ephemeral
from dataaggregator.bus.rabbitmq import RabbitBus, declare_all
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import MESSAGES
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.contract.conftest import ROOT, Tools
from tests.contract.test_golden import golden

EXAMPLES = ROOT / "docs/examples"
WORKSPACE = new_id()
SECONDS = 60.0


def commands() -> list[str]:
    """What the page of the examples tells to type."""
    (shown,) = re.findall(r"```sh\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    return [line for line in shown.splitlines() if not line.startswith("export")]


@pytest.fixture(scope="module", params=commands())
def example(request: pytest.FixtureRequest, tools: Tools) -> list[str]:
    """The command of an example, with the interpreter of the test run."""
    program, *words = shlex.split(request.param)
    return [{"python": sys.executable, "node": str(tools.node)}[program], *words]


@asynccontextmanager
async def started(example: Sequence[str], tools: Tools, **settings: str) -> AsyncIterator[Process]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {**kept, "NODE_PATH": str(tools.folder / "node_modules"), "WAIT_SECONDS": str(SECONDS), **settings}
    process = await asyncio.create_subprocess_exec(
        *example, cwd=ROOT, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        found = (await process.stdout.readline()).decode().rstrip("\n")
    if found:
        return found
    assert process.stderr is not None
    pytest.fail(f"the example ended: {(await process.stderr.read()).decode()}")


async def ended(process: Process) -> tuple[int, str, str]:
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Platform:
    """The two services that speak of runs, as far as their outboxes and the real adapter."""

    def __init__(self, database: Database, bus: RabbitBus) -> None:
        self.database = database
        self.bus = bus
        self.run, self.pipeline = new_id(), new_id()

    def message(self, kind: str, **changes: object) -> Message:
        """The golden message of this kind, about our run."""
        data = {**golden(kind)["data"], "run_id": self.run, "pipeline_id": self.pipeline, **changes}
        return MESSAGES[kind].model_validate(data)

    async def say(self, kind: str, run: UUID | None = None, **changes: object) -> UUID:
        message = self.message(kind, **changes)
        async with self.database.transaction(WORKSPACE) as tx:
            return await emit(
                tx,
                message.said_by,
                message,
                subject=run or self.run,
                workspace=WORKSPACE,
                source=message.said_by,
            )

    async def progress(self) -> None:
        """Said twice, as after a connection that broke before the acknowledgement."""
        message = self.message("run.progressed.v1", rows_read=40)
        event = ephemeral(message, subject=self.run, workspace=WORKSPACE, source="executor")
        for _ in range(2):
            await self.bus.publish_ephemeral(event)

    async def again(self, event_id: UUID) -> None:
        """Publish it once more, as after a relay that died between the confirm and its mark."""
        async with self.database.platform() as tx:
            for schema in ("scheduler", "executor"):
                await tx.execute(f"UPDATE {schema}.outbox SET published_at = NULL WHERE id = $1", event_id)
                await tx.execute("SELECT pg_notify($1, '')", f"dataaggregator_outbox_{schema}")
        await self.published()

    async def published(self) -> None:
        async with asyncio.timeout(SECONDS):
            while await self._waiting():  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.02)

    async def _waiting(self) -> int:
        async with self.database.platform() as tx:
            found: int = await tx.fetchval(
                """SELECT (SELECT count(*) FROM scheduler.outbox WHERE published_at IS NULL)
                        + (SELECT count(*) FROM executor.outbox WHERE published_at IS NULL)"""
            )
        return found


@pytest.fixture
async def platform(database: Database, settings: Settings, rabbitmq_url: str) -> AsyncIterator[Platform]:
    await declare_all(rabbitmq_url, {"scheduler": (), "executor": ()})
    bus = RabbitBus(rabbitmq_url, database, settings)
    await bus.open()
    bodies = [body for schema in ("scheduler", "executor") for body in bus.loops(schema).values()]
    tasks = [asyncio.ensure_future(body()) for body in bodies]
    yield Platform(database, bus)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await bus.close()


async def test_an_example_prints_each_status_once_and_ends_with_the_run(
    example: list[str], tools: Tools, platform: Platform, rabbitmq_url: str
) -> None:
    run = platform.run
    async with started(example, tools, AMQP_URL=rabbitmq_url, RUN_ID=str(run)) as process:
        assert await line(process) == "waiting for runs"
        queued = await platform.say("run.queued.v1")
        assert await line(process) == f"{run} queued"
        begun = await platform.say("run.started.v1")
        assert await line(process) == f"{run} started"
        await platform.again(queued)
        await platform.again(begun)
        await platform.progress()
        assert await line(process) == f"{run} progressed 40 rows read"
        other = new_id()
        await platform.say("run.skipped.v1", other, run_id=other)
        assert await line(process) == f"{other} skipped 0 rows read, 0 written"
        await platform.say("run.succeeded.v1", counts={"rows_read": 50, "rows_written": 48})
        assert await ended(process) == (0, f"{run} succeeded 50 rows read, 48 written\n", "")


async def test_an_account_that_may_only_read_events_is_enough(
    example: list[str], tools: Tools, platform: Platform, rabbitmq_url: str, rabbit_server: Broker
) -> None:
    at = urlsplit(rabbitmq_url)
    own, vhost = "example-subscriber-(python|node)", at.path[1:]
    account = {"password": secrets.token_urlsafe(18), "tags": ""}
    rights = {"configure": own, "write": own, "read": f"{own}|dataaggregator\\.events"}
    rabbit_server.call("PUT", f"/api/users/{vhost}", account)
    rabbit_server.call("PUT", f"/api/permissions/{vhost}/{vhost}", rights)
    url = urlunsplit(at._replace(netloc=f"{vhost}:{account['password']}@{at.hostname}:{at.port}"))
    try:
        async with started(example, tools, AMQP_URL=url) as process:
            assert await line(process) == "waiting for runs"
            await platform.say("run.succeeded.v1", counts={})
            assert await ended(process) == (0, f"{platform.run} succeeded 0 rows read, 0 written\n", "")
    finally:
        rabbit_server.call("DELETE", f"/api/users/{vhost}")


async def test_what_happened_while_it_was_away_waits_in_its_queue(
    example: list[str], tools: Tools, platform: Platform, rabbitmq_url: str
) -> None:
    async with started(example, tools, AMQP_URL=rabbitmq_url) as process:
        await line(process)
    await platform.say("run.started.v1")
    error = {"code": "connector-unreachable", "detail": "Nothing answers.", "retryable": False}
    await platform.say("run.failed.v1", error=error, counts={})
    await platform.published()
    async with started(example, tools, AMQP_URL=rabbitmq_url) as process:
        code, out, _ = await ended(process)
    assert code == 1
    assert out.splitlines() == [
        "waiting for runs",
        f"{platform.run} started",
        f"{platform.run} failed 0 rows read, 0 written connector-unreachable: Nothing answers.",
    ]


async def test_an_example_does_not_wait_for_ever(
    example: list[str], tools: Tools, platform: Platform, rabbitmq_url: str
) -> None:
    async with started(example, tools, AMQP_URL=rabbitmq_url, WAIT_SECONDS="0.5") as process:
        code, _, err = await ended(process)
    assert (code, err) == (1, "no run ended within 0.5 seconds\n")


async def test_an_example_says_what_it_needs(example: list[str], tools: Tools) -> None:
    async with started(example, tools) as process:
        code, out, err = await ended(process)
    assert (code, out) == (1, "")
    assert err.startswith("Set AMQP_URL")


def test_the_examples_use_none_of_our_code() -> None:
    tree = ast.parse((EXAMPLES / "subscribe.py").read_text())
    used = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    used |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert used - sys.stdlib_module_names == {"aio_pika"}
    script = (EXAMPLES / "subscribe.js").read_text()
    assert re.findall(r"require\((.*?)\)|^import", script, re.MULTILINE) == ['"amqplib"']


def test_every_example_is_shown_and_run() -> None:
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".js")}
    assert {Path(shlex.split(command)[1]).name for command in commands()} == there
