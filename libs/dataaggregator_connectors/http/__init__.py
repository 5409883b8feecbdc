"""HTTP: JSON APIs read page by page, and batches posted with an idempotency key."""

import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import WriteKind
from dataaggregator.connector.source import ReadMode
from dataaggregator.connector.spec import Check, ConnectorType, Naming, WriteMode
from dataaggregator.errors import PlatformError
from dataaggregator_connectors.http.config import HttpConfig
from dataaggregator_connectors.http.destination import HttpDestination
from dataaggregator_connectors.http.source import HttpSource


async def check(config: HttpConfig, context: Context) -> AsyncIterator[Check]:
    """Resolve the host, then read the first page of every stream that can be read."""
    split = urlsplit(config.base_url)
    started = time.perf_counter()
    try:
        address = await context.egress.resolve(
            split.hostname or "", split.port or (443 if split.scheme == "https" else 80)
        )
    except PlatformError as error:
        yield Check("resolve", False, error.detail, error.code, _since(started))
        return
    yield Check("resolve", True, f"{address.host} is {address.ip}.", duration_ms=_since(started))
    source = HttpSource(config, context)
    try:
        for name, stream in config.streams.items():
            if stream.method in (None, "GET"):
                yield await _first_page(source, name)
    finally:
        await source.close()


async def _first_page(source: HttpSource, name: str) -> Check:
    started = time.perf_counter()
    try:
        found = await source.discover(name)
    except PlatformError as error:
        if error.code == "schema-unknown":
            return Check(f"read {name}", True, f"{name} answers and has no record yet.", duration_ms=_since(started))
        return Check(f"read {name}", False, error.detail, error.code, _since(started))
    detail = f"{name} has {len(found[0].schema)} fields."
    return Check(f"read {name}", True, detail, duration_ms=_since(started))


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)


CONNECTOR = ConnectorType(
    name="http",
    title="HTTP API",
    config=HttpConfig,
    source=HttpSource,
    destination=HttpDestination,
    check=check,
    read_modes=(ReadMode.FULL_REFRESH, ReadMode.INCREMENTAL),
    write_modes=(WriteMode(WriteKind.APPEND, "at_least_once"),),
    naming=Naming(lambda stream: ("", stream)),
    docs="Reads JSON APIs by page, offset, cursor or link; posts batches with an Idempotency-Key, at least once.",
)
