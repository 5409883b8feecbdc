"""The way out of every connector type: whatever it is configured with, nobody inside is called."""

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator.connector.registry import connector_types
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import PlatformError
from tests.inside import Canary, listening, spelled
from tests.security import tried

pytestmark = pytest.mark.security

Configured = Callable[[str, int], dict[str, Any]]
S3_KEY = {"access_key_id": "a", "secret_access_key": "b"}
WAYS: dict[str, Configured] = {
    "postgres host": lambda host, port: {"host": host, "port": port, "user": "u", "database": "d"},
    "postgres url": lambda host, port: {"url": f"postgresql://u:p@{host}:{port}/d"},
    "http": lambda host, port: {"base_url": f"http://{host}:{port}/", "streams": {"a.csv": {"path": "/"}}},
    "files web": lambda host, port: {"root": f"http://{host}:{port}/"},
    "files s3": lambda host, port: {"root": "s3://b/", "endpoint": f"http://{host}:{port}", "credentials": S3_KEY},
    "files az": lambda host, port: {
        "root": "az://c/",
        "endpoint": f"http://{host}:{port}",
        "credentials": {"account": "a", "account_key": "Yg=="},
    },
}


def addresses() -> list[str]:
    """Spellings that this system takes for an address: the others are names, which a resolver answers."""
    found = []
    for spelling in (*spelled("127.0.0.1"), "::1"):
        try:
            socket.getaddrinfo(spelling.strip("[]"), 1, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            continue
        found.append(spelling if ":" not in spelling or "[" in spelling else f"[{spelling}]")
    return found


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with listening() as canary:
        yield canary


async def tell(way: str, config: dict[str, Any], context: Context) -> str:
    """How reading a stream of such a connector ends: the code of the error, or that there was none."""
    connector = connector_types()[way.partition(" ")[0]]
    assert connector.source is not None
    try:
        source = connector.source(connector.config.model_validate(config), context)
        try:
            async for _ in source.read(ReadRequest(stream="a.csv")):
                pass
        finally:
            await source.close()
    except PlatformError as error:
        return error.code
    except ValueError:  # of the configuration: no such address can be saved
        return "refused"
    return "read"


@pytest.mark.parametrize("way", WAYS)
async def test_no_connector_reaches_inside_however_the_address_is_spelled(
    way: str, canary: Canary, tmp_path: Path
) -> None:
    closed, opened = (Context(Egress(EgressPolicy(private=private)), folder=tmp_path) for private in (False, True))
    told = {spelling: await tell(way, WAYS[way](spelling, canary.port), closed) for spelling in tried(addresses())}
    assert set(told.values()) <= {"egress-denied", "refused"}, told
    assert "egress-denied" in told.values()
    assert canary.calls == 0
    await tell(way, WAYS[way]("127.0.0.1", canary.port), opened)
    assert canary.calls > 0, "it would lead there"


def test_each_type_is_among_them() -> None:
    assert {way.partition(" ")[0] for way in WAYS} == set(connector_types())
