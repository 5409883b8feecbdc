"""The connection to RabbitMQ: whenever it is lost, that is a passing fault, and the next use makes another."""

import asyncio
from contextlib import suppress
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from dataaggregator.bus.rabbitmq import link as link_room
from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.errors import Transient

MOMENTS = 20


async def prepare(channel: AbstractChannel) -> str:
    await channel.declare_exchange("some")
    return "prepared"


def underlay(connection: Any) -> Any:
    """The driver's own connection; ours learns of its end a little later."""
    return connection.transport.connection


@pytest.mark.parametrize("moment", range(MOMENTS))
async def test_a_connection_lost_at_any_moment_is_a_passing_fault(rabbitmq_url: str, moment: int) -> None:
    link = Link(rabbitmq_url, "test")
    losing = asyncio.ensure_future(underlay(await link.connection()).close())
    for _ in range(moment):
        await asyncio.sleep(0)
    with suppress(Transient):
        channel, _ = await link.open_channel(prepare)
        await link.close_channel(channel)
    await losing
    async with link.channel(prepare) as prepared:
        assert prepared == "prepared"
    await link.close()


async def test_closing_a_channel_of_a_lost_connection_ends_nobody(rabbitmq_url: str) -> None:
    link = Link(rabbitmq_url, "test")
    channel, _ = await link.open_channel(prepare)
    losing = asyncio.ensure_future(underlay(await link.connection()).close())
    await asyncio.sleep(0)
    await link.close_channel(channel)
    await losing
    await link.close()


async def test_a_cancel_of_our_own_is_a_cancel(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataaggregator.bus.rabbitmq.link.PREPARE_SECONDS", 0.5)
    link = Link(rabbitmq_url, "test")
    begun = asyncio.Event()

    async def wait(_: AbstractChannel) -> None:
        begun.set()
        await asyncio.sleep(3600)

    opening = asyncio.create_task(link.open_channel(wait))
    await begun.wait()
    opening.cancel()
    done, _ = await asyncio.wait([opening], timeout=60)
    assert done
    assert opening.cancelled()
    await link.close()


async def test_a_connection_that_was_not_made_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to the collector, it would be closed by it: in a thread without a loop that is a warning, and no end."""
    made: list[aio_pika.Connection] = []

    class Kept(aio_pika.Connection):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            made.append(self)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(aio_pika, "Connection", Kept)
    monkeypatch.setattr(link_room, "CONNECT_SECONDS", 0.2)
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Transient):
            await Link(f"amqp://127.0.0.1:{port}", "test").connection()
    assert [connection.is_closed for connection in made] == [True]


async def test_a_connection_whose_close_was_broken_off_is_closed_all_the_same(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link(rabbitmq_url, "test")
    connection = await link.connection()
    transport: Any = type(connection.transport)
    close = transport.close

    async def torn(self: Any, reason: Any) -> None:
        await close(self, reason)
        raise ConnectionResetError

    monkeypatch.setattr(transport, "close", torn)
    await link.close()
    assert connection.is_closed
