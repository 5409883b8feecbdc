"""The bus, RabbitMQ: the watch: whether queue, bindings and consumer are as they should be; what is not is mended."""

import asyncio
from dataclasses import dataclass, field

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from dataaggregator.bus.rabbitmq.bindings import Bindings
from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.bus.rabbitmq.receiver import Receiver
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.telemetry import logs

log = logs.get("bus")

LOOK_SECONDS = 30.0


@dataclass
class Watch:
    """Of one service. `fault` is what was wrong at the last look; None if all was well."""

    link: Link
    receiver: Receiver
    bindings: Bindings
    every_seconds: float
    fault: PlatformError | None = field(default=None, init=False)
    _received: int = field(default=-1, init=False)

    async def run(self) -> None:
        """Wait, look, mend; until cancelled."""
        while True:
            await asyncio.sleep(self.every_seconds)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    self.fault = await self._look()
            except PlatformError as error:
                self.fault = error
            except TimeoutError:
                self.fault = Transient("bus-unavailable", "RabbitMQ does not answer in time.")
            if self.fault is not None:
                log.warning("bus_fault", queue=self.receiver.queue, code=self.fault.code, reason=self.fault.detail)

    async def _look(self) -> PlatformError | None:
        if not self.receiver.consuming:  # which tries again by itself
            return Transient("bus-unavailable", f"Nothing consumes {self.receiver.queue} now.")
        async with self.link.channel(self._waiting) as waiting:
            pass
        async with self.link.channel(self._bound) as bound:
            pass
        if waiting is None or not bound:
            self.receiver.rebuild()
            return Transient("bus-topology-differs", f"The queue {self.receiver.queue} was gone; it is made anew.")
        if self.bindings.missing:
            types = ", ".join(self.bindings.missing)
            detail = f"{self.receiver.queue} was not bound for {types}; bound anew and asked for."
            return Transient("bus-topology-differs", detail)
        if self._stands_still(waiting):
            self.receiver.rebuild()
            return Transient("bus-unavailable", f"The consumer of {self.receiver.queue} stood still and is rebuilt.")
        return None

    async def _waiting(self, channel: AbstractChannel) -> int | None:
        """Messages ready in the queue; None if there is no such queue."""
        try:
            queue = await channel.declare_queue(self.receiver.queue, passive=True)
        except ChannelNotFoundEntity:
            return None
        return queue.declaration_result.message_count or 0

    async def _bound(self, channel: AbstractChannel) -> bool:
        """Whether there is a queue; then it is bound for all that it has to be."""
        try:
            await self.bindings.rebind(channel)
        except ChannelNotFoundEntity:
            return False
        return True

    def _stands_still(self, waiting: int) -> bool:
        """Messages wait, none is held, and none has come since the last look: a consumer that only seems to live."""
        before, self._received = self._received, self.receiver.received
        return waiting > 0 and before == self.receiver.received and not self.receiver.held
