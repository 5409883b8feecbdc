"""The bus, RabbitMQ: bindings made sure of, and what was missed while one was gone asked for again.

AMQP can make a binding but not tell whether it was there. With the management API a lost one is noticed: the service
then asks for everything of that type since the last look at which it was there. Without it, binding anew is all.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiohttp
import orjson
from aio_pika.abc import AbstractChannel

from dataaggregator.bus.backlog import KEEP_PUBLISHED_SECONDS
from dataaggregator.bus.consumer import Consumer
from dataaggregator.bus.rabbitmq import topology
from dataaggregator.bus.resend import request_resend
from dataaggregator.contracts.platform import BusResendRequested
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs

log = logs.get("bus")

ASK_SECONDS = 5.0
OVERLAP = timedelta(minutes=2)
"""Clocks of machines differ, and so do the moments of publishing and looking."""

Declare = Callable[[AbstractChannel, str, Iterable[str]], Awaitable[None]]


class Management:
    """RabbitMQ's management API, as far as it tells what a queue is bound to."""

    def __init__(self, url: str, vhost: str) -> None:
        parts = urlsplit(url)
        self._base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        login = aiohttp.encode_basic_auth(unquote(parts.username or "guest"), unquote(parts.password or "guest"))
        self._headers = {"Authorization": login}
        self._vhost = quote(vhost, safe="")

    async def bound(self, queue: str) -> set[tuple[str, str]]:
        """(exchange, routing key) of each binding of a queue; none if there is no such queue."""
        url = f"{self._base}/api/queues/{self._vhost}/{quote(queue, safe='')}/bindings"
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(headers=self._headers, timeout=timeout, trust_env=False) as session,
                session.get(url, allow_redirects=False) as answer,
            ):
                if answer.status == 404:
                    return set()
                if answer.status != 200:
                    raise Transient("bus-refused", f"RabbitMQ's management API answers {answer.status}.")
                found: list[dict[str, Any]] = orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            detail = f"RabbitMQ's management API does not answer: {type(error).__name__}."
            raise Transient("bus-unavailable", detail) from error
        # Each queue is bound to the default exchange, and that is told even of one that is gone.
        return {(binding["source"], binding["routing_key"]) for binding in found if binding["source"]}


class Bindings:
    """The bindings of one service's queue."""

    def __init__(self, database: Database, consumer: Consumer, management: Management | None) -> None:
        self._database = database
        self._consumer = consumer
        self._management = management
        self._last_whole: datetime | None = None
        self.missing: tuple[str, ...] = ()
        """The types whose bindings the last look found gone."""

    async def mend(self, channel: AbstractChannel) -> None:
        """Declare everything the service needs; if a binding or the queue was gone, ask for what was missed."""
        await self._mend(channel, topology.declare_service)

    async def rebind(self, channel: AbstractChannel) -> None:
        """As `mend`, of a queue that is there: otherwise ChannelNotFoundEntity.

        One that goes after it was looked at is not made anew here, or nobody would know that it was gone.
        """
        await self._mend(channel, topology.bind_service)

    async def _mend(self, channel: AbstractChannel, declare: Declare) -> None:
        looked_at = datetime.now(UTC)
        kept = looked_at - timedelta(seconds=KEEP_PUBLISHED_SECONDS)
        bound = await self._bound()
        self.missing = () if bound is None else tuple(_unbound(self._consumer.handlers, bound))
        await topology.declare_exchanges(channel)
        await declare(channel, self._consumer.schema, self._to_bind(bound))
        if self.missing:
            # With the queue went what waited in it, however old.
            since = self._last_whole - OVERLAP if bound and self._last_whole else kept
            log.warning("bindings_were_missing", schema=self._consumer.schema, types=list(self.missing))
            await request_resend(self._database, self._consumer.schema, self.missing, since)
        self._last_whole = looked_at

    def _to_bind(self, bound: set[tuple[str, str]] | None) -> Iterable[str]:
        """What the look found gone, and no more: a binding that goes after it was looked at is for the next look to
        find, or nobody would know that it was gone."""
        return self._consumer.handlers if bound is None else (*self.missing, BusResendRequested.event_type)

    async def _bound(self) -> set[tuple[str, str]] | None:
        """What the queue is bound to, nothing if there is none; None if that cannot be told."""
        if self._management is None:
            return None
        try:
            return await self._management.bound(topology.queue_name(self._consumer.schema))
        except Transient as error:
            log.warning("bindings_not_seen", schema=self._consumer.schema, code=error.code, reason=error.detail)
            return None


def _unbound(types: Iterable[str], bound: set[tuple[str, str]]) -> list[str]:
    """Without the request to resend itself: it is repeated by whoever still misses something."""
    asked = (each for each in topology.lasting(types) if each != BusResendRequested.event_type)
    return [each for each in asked if (topology.exchange_of(each), each) not in bound]
