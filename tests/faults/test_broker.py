"""The broker is killed, blocked, or loses what was declared: work is taken, and all of it is done in the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest

from dataaggregator.settings import Settings
from deploy.local.rabbitmq import PrivateRabbit
from tests.faults.bounds import bound_seconds
from tests.faults.full import FullPlatform, back, is_green, until
from tests.faults.load import copies, load, make_pipelines
from tests.private import VHOST

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

RED_WITHIN_SECONDS = 60.0
LONGEST_FAULT_SECONDS = 6.0
SHARE_ANSWERED = 0.999
LISTENERS = ("scheduler", "executor", "connectors", "gateway")


def published(full: FullPlatform) -> float:
    """How soon a run ends, in seconds, by docs/guarantees/recovery.md."""
    return bound_seconds("the broker", Settings.load(full.cluster.environment))


async def kill(rabbit: PrivateRabbit, seconds: float) -> None:
    rabbit.kill()
    await asyncio.sleep(seconds)
    rabbit.launch()
    await asyncio.to_thread(rabbit.wait)


async def block(rabbit: PrivateRabbit, seconds: float) -> None:
    rabbit.alarm()
    await asyncio.sleep(seconds)
    rabbit.clear_alarm()


@pytest.mark.tries(1, 15)
@pytest.mark.parametrize("fault", [kill, block])
async def test_a_broker_that_is_away_costs_no_call_and_no_event(
    full: FullPlatform, fault: Callable[[PrivateRabbit, float], Awaitable[None]], chance: random.Random
) -> None:
    async with full.client() as client:
        pipelines = await make_pipelines(client, full.cluster.folder)
        async with load(client, pipelines, full.cluster.folder) as answers:
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            await fault(full.rabbit, chance.uniform(1.0, LONGEST_FAULT_SECONDS))
            await back(client, pipelines[0], published(full))
    failed = sum(answers.failed.values())
    assert failed <= answers.asked * (1 - SHARE_ANSWERED), f"{answers.failed} of {answers.asked}"
    await full.check(copied=copies(full.cluster.folder, pipelines))


async def delete_queue(rabbit: PrivateRabbit, service: str) -> None:
    """Then the broker cancels its consumer."""
    await asyncio.to_thread(rabbit.broker.call, "DELETE", f"/api/queues/{VHOST}/{service}.events")


async def remove_bindings(rabbit: PrivateRabbit, service: str) -> None:
    where = f"/api/bindings/{VHOST}/e/dataaggregator.events/q/{service}.events"
    for binding in await asyncio.to_thread(rabbit.broker.call, "GET", where):
        key = quote(binding["properties_key"], safe="")
        await asyncio.to_thread(rabbit.broker.call, "DELETE", f"{where}/{key}")


@pytest.mark.tries(2, 20)
async def test_what_the_broker_lost_is_seen_mended_and_made_up_for(
    full: FullPlatform, seed: int, chance: random.Random
) -> None:
    service = chance.choice(LISTENERS)
    async with full.client() as client:
        pipelines = await make_pipelines(client, full.cluster.folder)
        async with load(client, pipelines, full.cluster.folder):
            if seed % 2:
                await delete_queue(full.rabbit, service)
            else:
                await remove_bindings(full.rabbit, service)
                await until(client, lambda status: not is_green(status), RED_WITHIN_SECONDS, "nobody saw it")
            await back(client, pipelines[0], published(full))
    await full.check(copied=copies(full.cluster.folder, pipelines))
