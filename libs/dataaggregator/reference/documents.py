"""The reference: the API and the events as documents for programs, from the same declarations that are served."""

from collections.abc import Mapping
from typing import Any

import orjson

from dataaggregator.bus import EmbeddedBus
from dataaggregator.clock import SystemClock
from dataaggregator.contracts import asyncapi as events
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.http import openapi as api
from dataaggregator.http.app import served_routes
from dataaggregator.installed import installed_services
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.ports import Ports
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings

_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
_NO_SECRET = "nothing-is-sealed-with-this-because-nothing-is-opened"  # noqa: S105 - said by its text


def asyncapi() -> str:
    return _written(events.document())


def openapi() -> str:
    """As the gateway serves it; services are built for their routes and never opened."""
    ports = _ports()
    services = [installed.build(ports) for installed in installed_services()]
    return _written(api.merge({one.name: api.document(served_routes(one, ports), one.name) for one in services}))


def _ports() -> Ports:
    settings = Settings.load({"SECRET_KEY": _NO_SECRET, "DATABASE_URL": _NOWHERE})
    database, clock = Database(_NOWHERE, settings), SystemClock()
    return Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(settings.rates()),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing(_NO_SECRET),
        clock=clock,
    )


def _written(document: Mapping[str, Any]) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
