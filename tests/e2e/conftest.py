"""One platform for all end-to-end tests of a worker, and a client of its administrator."""

from collections.abc import AsyncIterator, Iterator

import pytest

from dataaggregator.client import Client
from tests.e2e.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that is up."""
    started = Platform(tmp_path_factory.mktemp("platform"))
    started.start()
    try:
        yield started
    finally:
        assert started.stop() == 0, started.printed()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform as `make up` starts it: with the demo's sources and pipelines."""
    started = Platform(tmp_path_factory.mktemp("demo"), demo=True)
    started.start()
    started.wait_for_output("The demo's pipelines are ready")
    try:
        yield started
    finally:
        assert started.stop() == 0, started.printed()


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    """The administrator's client."""
    client = await platform.client()
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)
