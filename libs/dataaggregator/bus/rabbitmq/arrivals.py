"""The bus, RabbitMQ: the messages of one queue as they come, until its channel or its consumer is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.errors import PlatformError
from dataaggregator.telemetry import logs

log = logs.get("bus")

PREFETCHED = 200
PAUSE_SECONDS = 1.0


class Arrivals:
    """Made by `begin`; take messages one by one, or as many as are there."""

    def __init__(self) -> None:
        self._come: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self.received = 0
        """Messages that have come since the start."""

    @classmethod
    async def begin(cls, channel: AbstractChannel, queue: AbstractQueue, *, no_ack: bool = False) -> Self:
        """Consume; with `no_ack` the broker forgets a message as soon as it is sent."""
        arrivals = cls()
        channel.close_callbacks.add(arrivals._end)
        # Sent by the broker when the queue was deleted or has lost its leader.
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(arrivals._end)
        await channel.set_qos(PREFETCHED)
        await queue.consume(arrivals._take, no_ack=no_ack)
        return arrivals

    def end(self) -> None:
        """Nothing more is taken."""
        self._come.put_nowait(None)

    async def batch(self) -> list[AbstractIncomingMessage]:
        """Everything that has come, at least one message; empty when the channel or the consumer is lost."""
        batch: list[AbstractIncomingMessage] = []
        message = await self._come.get()
        while message is not None:
            batch.append(message)
            if self._come.empty():
                return batch
            message = self._come.get_nowait()
        return []

    async def __aiter__(self) -> AsyncIterator[AbstractIncomingMessage]:
        while (message := await self._come.get()) is not None:
            yield message

    def _end(self, *_: Any) -> None:
        self.end()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self.received += 1
        self._come.put_nowait(message)


async def take_each(
    link: Link,
    queue: str,
    begin: Callable[[AbstractChannel], Awaitable[Arrivals]],
    take: Callable[[AbstractIncomingMessage], Awaitable[None]],
) -> None:
    """Message after message, until cancelled; a broker or a database that does not answer is waited for."""
    while True:
        try:
            async with link.channel(begin) as arrivals:
                async for message in arrivals:
                    await take(message)
        except PlatformError as error:
            log.debug("messages_wait", queue=queue, code=error.code, reason=error.detail)
        await asyncio.sleep(PAUSE_SECONDS)
