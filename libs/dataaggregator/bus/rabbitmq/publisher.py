"""The bus, RabbitMQ: publishing; an event counts as published only when the broker has said that it keeps it."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import DeliveryError, PublishError

from dataaggregator.bus.rabbitmq.link import Link, translated
from dataaggregator.bus.rabbitmq.topology import EXCHANGES, declare_exchanges, exchange_of
from dataaggregator.bus.rabbitmq.wire import to_message
from dataaggregator.contracts.envelope import Event
from dataaggregator.errors import PlatformError
from dataaggregator.telemetry import logs

log = logs.get("bus")

CONFIRM_SECONDS = 10.0


class Publisher:
    """A channel with confirms for what must not be lost, one without for what may be.

    The relays of this process share the channel. The same event is never twice in flight on it, because the driver
    knows a returned message only by its id: after anything but a plain answer the channel is given up, and all that
    was not confirmed on it goes out on a new one.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._confirmed: _Exchanges | None = None
        self._fleeting: _Exchanges | None = None
        self._opening = asyncio.Lock()

    async def publish(self, events: Sequence[Event]) -> set[UUID]:
        """Publish in order; returns the ids of the events that the broker has confirmed, the others stay unpublished.

        Raises Transient when the broker cannot be reached at all.
        """
        exchanges = await self._open_confirmed()
        results = await asyncio.gather(*(_publish(exchanges, event) for event in events), return_exceptions=True)
        confirmed = {event.id for event, result in zip(events, results, strict=True) if result is None}
        failures = [result for result in results if result is not None]
        if failures:
            await self._give_up(exchanges, len(events), failures)
        return confirmed

    async def publish_ephemeral(self, event: Event) -> None:
        """Hand it to the broker if that can be done at once; never raises."""
        try:
            with translated():
                async with asyncio.timeout(CONFIRM_SECONDS):
                    if self._fleeting is None or self._fleeting.closed:
                        self._fleeting = await _Exchanges.open(self._link, confirms=False)
                    exchange = self._fleeting.of(event)
                    await exchange.publish(to_message(event), routing_key=event.type, mandatory=False)
        except PlatformError as error:
            log.debug("ephemeral_event_lost", type=event.type, code=error.code, reason=error.detail)

    async def _open_confirmed(self) -> "_Exchanges":
        async with self._opening:
            if self._confirmed is None or self._confirmed.closed:
                self._confirmed = await _Exchanges.open(self._link, confirms=True)
            return self._confirmed

    async def _give_up(self, exchanges: "_Exchanges", tried: int, failures: Sequence[BaseException]) -> None:
        if exchanges is self._confirmed:
            self._confirmed = None
        reason = f"{type(failures[0]).__name__}: {failures[0]}"
        log.warning("events_not_confirmed", tried=tried, failed=len(failures), reason=reason)
        await exchanges.close()


class _Exchanges:
    """A channel with the exchanges that are published to."""

    def __init__(self, link: Link, channel: AbstractChannel, exchanges: dict[str, AbstractExchange]) -> None:
        self._link = link
        self._channel = channel
        self._exchanges = exchanges

    @classmethod
    async def open(cls, link: Link, *, confirms: bool) -> "_Exchanges":
        channel, exchanges = await link.open_channel(_exchanges, confirms=confirms)
        return cls(link, channel, exchanges)

    @property
    def closed(self) -> bool:
        return bool(self._channel.is_closed)

    def of(self, event: Event) -> AbstractExchange:
        return self._exchanges[exchange_of(event.type)]

    async def close(self) -> None:
        await self._link.close_channel(self._channel)


async def _exchanges(channel: AbstractChannel) -> dict[str, AbstractExchange]:
    await declare_exchanges(channel)
    return {name: await channel.get_exchange(name, ensure=False) for name in EXCHANGES.values()}


async def _publish(exchanges: _Exchanges, event: Event) -> None:
    try:
        await exchanges.of(event).publish(
            to_message(event), routing_key=event.type, mandatory=True, timeout=CONFIRM_SECONDS
        )
    except PublishError:
        log.error("event_unroutable", type=event.type, event_id=str(event.id))
        raise
    except DeliveryError:
        log.warning("event_refused", type=event.type, event_id=str(event.id))
        raise
