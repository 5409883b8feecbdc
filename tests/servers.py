"""The servers of a test run: a private Redis a worker, and one private RabbitMQ, however many workers there are.

The controller keeps the broker, and starts it when the first worker has seen that one of its tests asks for it; the
start overlaps with the tests that do not. A worker finds in the run's folder where it answers.
"""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dataaggregator.errors import PlatformError
from deploy.local.rabbitmq import Broker, PrivateRabbit
from deploy.local.redis import PrivateRedis
from tests.memory import server_folder

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

FIXTURE = "rabbit_server"
POLL_SECONDS = 0.1
# The packages may have to be fetched first.
START_SECONDS = 300.0


class Shelf:
    """The run's folder, in which controller and workers leave word for each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wanted = folder / "wanted"
        self._answer = folder / "broker.json"

    def say(self, found: Broker | Exception) -> None:
        """Tell the workers where the broker answers, or why it does not."""
        text = json.dumps({"error": str(found)} if isinstance(found, Exception) else {"broker": asdict(found)})
        draft = self.folder / "draft"
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.rename(self._answer)

    def broker(self) -> Broker:
        """Where the broker answers, when it does."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answer.exists():
            assert time.monotonic() < deadline, "the test run's RabbitMQ did not start"
            time.sleep(POLL_SECONDS)
        answer = json.loads(self._answer.read_text())
        assert "broker" in answer, answer["error"]
        return Broker(**answer["broker"])


class Keeper:
    """Starts the broker when it is wanted, and ends it with the run; its thread lives as long as the broker."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self.shelf = Shelf(Path(self._held.enter_context(server_folder())))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="broker keeper", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the broker, if it was started."""
        self._over.set()
        self._thread.join()
        self._held.close()

    def _keep(self) -> None:
        while not self.shelf.wanted.exists():
            if self._over.wait(POLL_SECONDS):
                return
        rabbit = PrivateRabbit(self.shelf.folder / "rabbitmq")
        try:
            self.shelf.say(rabbit.start())
            self._over.wait()
        except (PlatformError, OSError) as error:
            self.shelf.say(error)
        finally:
            rabbit.stop()


SHELF = pytest.StashKey[Shelf]()
KEEPER = pytest.StashKey[Keeper]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the broker in the controller, or where there are no workers."""
    given = getattr(config, "workerinput", None)
    if given is not None:
        config.stash[SHELF] = Shelf(Path(given["shelf"]))
        return
    config.stash[KEEPER] = Keeper()
    config.stash[SHELF] = config.stash[KEEPER].shelf


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    """Tell a worker, before it starts, where word is left."""
    node.workerinput["shelf"] = str(node.config.stash[SHELF].folder)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the broker started as soon as it is known that a test asks for it."""
    if session.config.option.collectonly:
        return
    if any(FIXTURE in item.fixturenames for item in session.items if isinstance(item, pytest.Function)):
        session.config.stash[SHELF].wanted.touch()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The run is over: in the controller all workers have ended."""
    keeper = config.stash.get(KEEPER, None)
    if keeper is not None:
        keeper.end()


@pytest.fixture(scope="session")
def rabbit_server(request: pytest.FixtureRequest) -> Broker:
    """The test run's RabbitMQ, shared by all workers: make a virtual host of your own in it, and harm nobody else's."""
    shelf = request.config.stash[SHELF]
    shelf.wanted.touch()
    return shelf.broker()


@pytest.fixture
def rabbitmq_url(rabbit_server: Broker) -> Iterator[str]:
    """A fresh virtual host of the shared RabbitMQ; dropped after the test, with the connections to it."""
    name = f"test-{secrets.token_hex(6)}"
    yield rabbit_server.make_vhost(name)
    rabbit_server.drop_vhost(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """A private Redis that only this worker uses."""
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: PrivateRedis) -> str:
    """The worker's Redis, empty."""
    redis_server.flush()
    return redis_server.url
