"""The templates of an executor: nothing in them that a fork would leave half done, and nothing that is anybody's."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from dataaggregator.dataplane.allocators import COUNTED
from dataaggregator.dataplane.forking.host import last_words
from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.dataplane.runprocess import ENVIRONMENT


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(PoolSettings(warm=0, folder=tmp_path))
    yield pool
    await pool.close()


@pytest.fixture(params=["runs", "engine", "python"])
async def forked_from(pool: ProcessPool, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Its place below /proc, when it has forked."""
    templates = pool.templates
    template = {"runs": templates.runs, **vars(templates.sandboxes)}[request.param]
    process = await template.fork(tmp_path)
    await process.wait()  # it was given nothing to hold
    await last_words(process.stderr)
    return Path(f"/proc/{template.pid}")


async def test_it_has_no_thread_that_a_fork_would_lose(forked_from: Path) -> None:
    assert [(task / "comm").read_text() for task in (forked_from / "task").iterdir()] == ["python\n"]


async def test_it_has_nothing_of_the_services_and_has_opened_nothing(forked_from: Path) -> None:
    assert environment_of(forked_from).keys() <= {*ENVIRONMENT, *COUNTED}
    assert {name.split(":")[0] for name in opened_by(forked_from)} <= {"/dev/null", "pipe", "socket"}


def environment_of(process: Path) -> dict[str, str]:
    words = (process / "environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def opened_by(process: Path) -> list[str]:
    """What it holds open, but for what it closes while we look."""
    opened = []
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):
            opened.append(str(link.readlink()))
    return opened
