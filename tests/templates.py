"""What the run processes of all tests of a worker are forked from: templates of each test's own import all anew."""

from collections.abc import AsyncIterator

import pytest

from dataaggregator.dataplane.processes import ProcessPool
from dataaggregator.dataplane.runprocess import Templates
from dataaggregator.service import Service


class SharedTemplates(Templates):
    """Pools come and go; who made these ends them. A process is told its environment when it is forked, as any is."""

    async def rest(self, idle_seconds: float) -> None:
        """The next test needs them."""

    async def close(self) -> None:
        """A pool ends what it had forked, and no more."""

    async def end(self) -> None:
        await super().close()


_shared: list[SharedTemplates] = []


@pytest.fixture(scope="session", autouse=True)
async def _shared_templates(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[None]:
    """Started by the first test that needs one."""
    _shared.append(SharedTemplates(tmp_path_factory.mktemp("templates")))
    yield
    await _shared.pop().end()


def share(pool: ProcessPool) -> ProcessPool:
    """The same pool, which forks from the worker's templates; it was not opened yet."""
    (pool.templates,) = _shared
    return pool


def share_in(executor: Service) -> Service:
    """The same executor, whose pool does."""
    for resource in executor.resources:
        if isinstance(resource, ProcessPool):
            share(resource)
    return executor
