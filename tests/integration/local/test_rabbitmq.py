"""The private RabbitMQ: keeps what it confirmed over a kill, harms no other, leaves nothing behind."""

import asyncio
import stat
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.connection import make_url

from dataaggregator.errors import Permanent
from deploy.local.rabbitmq import Broker, PrivateRabbit, rabbitmq_programs
from tests.integration.local.ends import wait_until_ended

# A queue that was declared a moment ago may be lost with the node that is killed: RabbitMQ 4.0 needs a second.
SETTLED_SECONDS = 3.0
START_AND_WAIT = """
import sys
from pathlib import Path
from deploy.local.rabbitmq import PrivateRabbit
rabbit = PrivateRabbit(Path(sys.argv[1]))
rabbit.launch()
print(*rabbit.pids, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    """A broker that these tests may kill."""
    with PrivateRabbit(tmp_path_factory.mktemp("rabbitmq")) as rabbit:
        yield rabbit


async def publish(url: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        await asyncio.sleep(SETTLED_SECONDS)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=queue, timeout=10)


async def take(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        kept = await channel.get_queue(queue)
        async with kept.iterator(timeout=20) as messages:
            async for message in messages:
                await message.ack()
                return message.body
    raise AssertionError("no message")


async def try_to_connect(url: str) -> None:
    """A connection that was not made is closed as well: the driver's collector would begin to, in another test."""
    connection = aio_pika.Connection(make_url(url))
    try:
        await connection.connect()
    finally:
        await connection.close()


async def test_a_confirmed_message_survives_a_kill_and_a_restart(rabbit: PrivateRabbit) -> None:
    url = rabbit.make_vhost("kept")
    await publish(url, "orders", b"confirmed")
    before = rabbit.broker
    rabbit.kill()
    with pytest.raises(OSError, match="Connect call failed"):
        await try_to_connect(url)
    assert rabbit.start() == before
    assert await take(url, "orders") == b"confirmed"


async def test_a_second_broker_runs_beside_the_first_and_knows_nothing_of_it(
    rabbit: PrivateRabbit, rabbit_server: Broker
) -> None:
    rabbit.make_vhost("mine")
    assert {"mine"} <= {one["name"] for one in rabbit.broker.call("GET", "/api/vhosts")}
    assert "mine" not in {one["name"] for one in rabbit_server.call("GET", "/api/vhosts")}
    assert rabbit.broker.amqp_port != rabbit_server.amqp_port
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await try_to_connect(rabbit.url().replace(str(rabbit.broker.amqp_port), str(rabbit_server.amqp_port)))


async def until_it_blocks(rabbit: PrivateRabbit) -> None:
    """The broker has been told, and has told those who publish."""
    async with asyncio.timeout(30):
        while True:
            try:
                rabbit.broker.call("GET", "/api/health/checks/local-alarms")
            except urllib.error.HTTPError as refused:
                if refused.code == 503:
                    return
                raise
            await asyncio.sleep(0.05)


async def test_a_memory_alarm_blocks_publishers_until_it_is_cleared(rabbit: PrivateRabbit) -> None:
    url = rabbit.make_vhost("alarmed")
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue("orders", durable=True)
        rabbit.alarm()
        await until_it_blocks(rabbit)
        sent = asyncio.ensure_future(
            channel.default_exchange.publish(aio_pika.Message(b"late"), routing_key=queue.name, timeout=30)
        )
        done, _ = await asyncio.wait([sent], timeout=1)
        assert not done
        rabbit.clear_alarm()
        await sent


async def test_a_paused_broker_answers_nobody_and_then_goes_on(rabbit: PrivateRabbit) -> None:
    rabbit.pause()
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(try_to_connect(rabbit.url()), 0.5)
    finally:
        rabbit.resume()
    async with await aio_pika.connect(rabbit.url()) as connection:
        assert not connection.is_closed


def test_its_folder_and_its_secrets_are_closed_to_others(rabbit: PrivateRabbit) -> None:
    assert stat.S_IMODE(rabbit.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((rabbit.folder / "rabbitmq.conf").stat().st_mode) == 0o600
    assert stat.S_IMODE((rabbit.folder / ".erlang.cookie").stat().st_mode) == 0o400
    assert rabbit.broker.password not in repr(rabbit.broker)


def test_it_listens_on_loopback_only(rabbit: PrivateRabbit) -> None:
    assert rabbit.pids
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ports = {f"{port:04X}" for port in rabbit.ports.values()}
    addresses = [line.split()[1].split(":") for line in listening if line.split()[3] == "0A"]
    assert {port for _, port in addresses} >= ports
    assert {address for address, port in addresses if port in ports} == {"0100007F"}


def test_node_and_name_service_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(tmp_path / "rabbitmq")],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None
    pids = [int(word) for word in starter.stdout.readline().split()]
    assert len(pids) == 2
    starter.kill()
    starter.communicate()
    wait_until_ended(*pids)


def test_nothing_is_left_when_it_is_stopped(rabbit: PrivateRabbit) -> None:
    pids = rabbit.pids
    assert len(pids) == 2
    rabbit.stop()
    wait_until_ended(*pids)


async def test_each_test_has_a_virtual_host_of_its_own(rabbitmq_url: str, rabbit_server: Broker) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        assert not connection.is_closed
    assert rabbitmq_url.rpartition("/")[2] in {one["name"] for one in rabbit_server.call("GET", "/api/vhosts")}


def test_a_series_that_nobody_knows_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_SERIES", "2")
    with pytest.raises(Permanent, match="RABBITMQ_SERIES is 2: give 3 or 4, or leave it out"):
        rabbitmq_programs()
