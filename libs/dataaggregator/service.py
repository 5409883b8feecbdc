"""A service as data: what it serves, listens to, keeps open and keeps doing. ``host.py`` runs it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataaggregator.http.route import Route
from dataaggregator.resource import Resource

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware
    from pydantic import BaseModel

    from dataaggregator.bus import Handler
    from dataaggregator.resealing import Sealed

__all__ = ["Loop", "Resource", "Service"]


@dataclass
class Loop:
    """Work that goes on until it is cancelled; one that ends or raises stops everything."""

    name: str
    run: Callable[[], Awaitable[None]]


@dataclass
class Service:
    """What ``services.<name>.app.build(ports)`` returns.

    ``resources`` are its own, opened before it listens, closed after it has stopped. ``needs`` are what
    ``/health/ready`` asks (a shared database among them), ``wants`` what it asks too and can do without for a while.
    ``schema`` is the Postgres schema it owns, whose outbox is relayed and in which its ``handlers`` keep their inbox.
    ``middlewares`` (aiohttp's, the first outermost) stand between the kit's own (request id, trace, problems) and the
    routes: the gateway's edge is made of them; a path of which ``passes`` is true they answer themselves, so that no
    route is looked for. ``operator`` holds, by the words of the command line, what whoever has
    the machine may do without a login; it needs the ports opened, and nothing else of the service. ``sealed`` names
    every table with secrets that SECRET_KEY has sealed.
    """

    name: str
    routes: Sequence[Route]
    handlers: "Sequence[Handler]" = ()
    loops: Sequence[Loop] = ()
    resources: Sequence[Resource] = ()
    needs: Sequence[Resource] = ()
    wants: Sequence[Resource] = ()
    schema: str | None = None
    middlewares: "Sequence[Middleware]" = ()
    passes: Callable[[str], bool] | None = None
    operator: "Mapping[str, Callable[[str], Awaitable[BaseModel]]]" = field(default_factory=dict)
    sealed: "Sequence[Sealed]" = ()
