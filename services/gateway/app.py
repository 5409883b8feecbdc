"""Gateway, composition root: the edge, the feed, status and documents, put together by hand."""

import asyncio
from collections.abc import Awaitable, Callable

from dataaggregator.errors import Transient
from dataaggregator.http.client import ServiceClient
from dataaggregator.ports import Ports
from dataaggregator.service import Loop, Service
from dataaggregator.telemetry import logs

from . import SCHEMA, SERVICE, routing
from .callers import Callers
from .documents import Documents
from .edge import Edge
from .feed.api import FeedApi
from .feed.events import FeedEvents
from .feed.streams import Streams
from .feed.tail import Tail
from .forward import Upstreams
from .idempotency.commands import Idempotency
from .limiting.api import RateLimitsApi
from .limiting.commands import Limiting
from .pages.api import PagesApi
from .parked.api import ParkedApi
from .parked.asking import Parked
from .status import StatusApi
from .webhooks.api import WebhooksApi
from .webhooks.commands import SEALED, WebhookCommands
from .webhooks.deliverer import Deliverer
from .webhooks.sending import Sending

SWEEP_EVERY_SECONDS = 600.0

log = logs.get("gateway")


def build(ports: Ports) -> Service:
    services = ServiceClient(ports, SERVICE)
    upstreams = Upstreams(ports.directory)
    tail = Tail(ports.database, ports.bus, ports.clock)
    idempotency = Idempotency(ports.database, ports.clock)
    limiting = Limiting(ports)
    edge = Edge(ports.settings, upstreams, limiting, idempotency, Callers(services, ports))
    sending = Sending(ports.settings)
    deliverer = Deliverer(ports.database, ports.keys, ports.clock, sending)
    webhooks = WebhookCommands(ports.database, ports.keys, sending.guard)
    doors = (
        FeedApi(Streams(tail), services),
        StatusApi(ports, upstreams, services),
        ParkedApi(Parked(services), edge.address),
        RateLimitsApi(ports.database, limiting, edge.address),
        WebhooksApi(ports.database, webhooks, edge.address),
        PagesApi(Documents(services, ports.clock)),
    )
    return Service(
        name=SERVICE,
        schema=SCHEMA,
        routes=[route for door in doors for route in door.routes()],
        handlers=FeedEvents(ports.clock).handlers(),
        loops=[
            Loop("feed", tail.follow),
            Loop("feed-sweep", tail.sweep),
            Loop("keys-sweep", lambda: _sweep(idempotency.forget_outlived)),
            Loop("logins-sweep", lambda: _sweep(limiting.forget_outlived)),
            Loop("webhooks", deliverer.run),
            Loop("deliveries-sweep", lambda: _sweep(deliverer.forget_outlived)),
        ],
        resources=[services, upstreams, tail, sending],
        needs=[ports.database],
        middlewares=edge.middlewares(),
        passes=routing.forwarded,
        sealed=[SEALED],
    )


async def _sweep(forget: Callable[[], Awaitable[None]]) -> None:
    """A loop that forgets what was kept long enough."""
    while True:
        try:
            await forget()
        except Transient as error:
            log.warning("sweep_postponed", code=error.code)
        await asyncio.sleep(SWEEP_EVERY_SECONDS)
