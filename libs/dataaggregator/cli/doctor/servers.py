"""What `doctor` asks of the servers that the settings name: do they answer, which are they, and what do they lack?"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dataaggregator.cli.doctor.finding import Finding, doubtful, ill, of_error, well
from dataaggregator.client import ApiError, Client, UnreachableError
from dataaggregator.clock import Clock
from dataaggregator.db import migrate, server
from dataaggregator.embedded.binaries import NEWEST, ServerUser, postgres_programs
from dataaggregator.errors import PlatformError
from dataaggregator.installed import installed_services
from dataaggregator.redis_link import LinkDownError, RedisLink, RedisRefusedError

OLDEST_POSTGRES = 140_000
OLDEST_REDIS = 6
NOTICEABLE, UNBEARABLE = timedelta(seconds=2), timedelta(seconds=30)
"""How far clocks may lie apart; tokens between services live for a minute."""


async def database(url: str, clock: Clock) -> AsyncIterator[Finding]:
    """The server, its clock and ours, and every schema; only the first when it does not answer."""
    try:
        asked = clock.now()
        found = await server.ask(url)
        answered = clock.now()
    except PlatformError as error:
        yield of_error("database", error)
        return
    if found.number < OLDEST_POSTGRES:
        yield ill("database", f"PostgreSQL {found.version}; the platform needs 14 or newer", "server-too-old")
    else:
        yield well("database", f"PostgreSQL {found.version}")
    yield clocks(found.now, asked, answered)
    try:
        yield await migrations(url)
    except PlatformError as error:
        yield of_error("migrations", error)


def clocks(there: datetime, asked: datetime, answered: datetime) -> Finding:
    """How far the server's time lies outside the moments between which it was told."""
    apart = max(asked - there, there - answered, timedelta())
    said = f"the database's clock and ours are {apart.total_seconds():.1f} s apart"
    if apart > UNBEARABLE:
        return ill("clock", said, "clocks-apart")
    return doubtful("clock", said, "clocks-apart") if apart > NOTICEABLE else well("clock", said)


async def migrations(url: str) -> Finding:
    """Raises PlatformError."""
    owners = [(service.name, service.migrations) for service in installed_services()]
    behind = [name for name, folder in owners if folder is not None and await migrate.behind(url, name, folder)]
    if behind:
        lacks = f"behind what this version needs: {', '.join(behind)}"
        return ill("migrations", f"{lacks}; run `dataaggregator db upgrade`", "database-not-migrated")
    return well("migrations", "every schema is at its newest revision")


def embedded_database() -> Finding:
    """Without DATABASE_URL the platform starts a server of its own, and migrates it, each time."""
    try:
        programs = postgres_programs(NEWEST, ServerUser.current())
    except PlatformError as error:
        return of_error("database", error)
    return well("database", f"PostgreSQL {NEWEST} of our own, from {programs}")


async def bus(url: str) -> Finding:
    # The driver takes a while to import: only who talks to a broker pays for it.
    from dataaggregator.bus.rabbitmq.server import version  # noqa: PLC0415

    try:
        return well("bus", f"RabbitMQ {await version(url)}")
    except PlatformError as error:
        return of_error("bus", error)


async def limits(url: str) -> Finding:
    """Redis, for limits and revocations."""
    link = RedisLink(url)
    try:
        await link.open()
        version = _redis_version(await link.call("INFO", "server"))
    except (LinkDownError, RedisRefusedError) as error:
        return ill("limits", f"Redis at {link.address} does not answer: {error}", "limits-unavailable")
    finally:
        await link.close()
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        return ill("limits", f"Redis {version}; the platform needs 6 or newer", "server-too-old")
    return well("limits", f"Redis {version}")


def _redis_version(told: Any) -> str:
    text = told.decode() if isinstance(told, bytes) else str(told)
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return lines.get("redis_version", "0")


async def platform(url: str, authority: Path | None = None) -> AsyncIterator[Finding]:
    """What a platform that is up says of itself; nothing that is well but itself is listed."""
    try:
        async with Client(url, authority=authority) as client:
            told = await client.get("/api/status")
    except (ApiError, UnreachableError) as error:
        yield ill("platform", f"{url} does not answer: {error}", "service-unavailable")
        return
    bad = [one for service in told["services"] for one in service["checks"] if not one["ok"]]
    for one in bad:
        yield Finding(f"platform: {one['name']}", "fail", str(one["detail"]), one["help"])
    if not bad:
        yield well("platform", f"{url} is {told['status']}, version {told['versions']['dataaggregator']}")
