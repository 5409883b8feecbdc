"""`make test-compose` only: an engine needs root and a few minutes, so `make test` leaves these tests out."""

import json
import os
from collections.abc import Iterator

import pytest

from dataaggregator.cli.demo.world import countries
from deploy.local import debian
from deploy.local.docker import DockerEngine, why_not
from tests.compose import images
from tests.compose.installation import USER, Installation

collect_ignore_glob = [] if os.environ.get("COMPOSE") else ["test_*.py"]
_FIGURES: dict[str, float] = {}


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with DockerEngine(debian.cache_folder().parent / "docker") as engine:
        images.prepare(engine)
        yield engine


@pytest.fixture(scope="session")
def installation(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A new one, built, started and healthy; `down` removes what it made but for its volumes, as for a user."""
    home = tmp_path_factory.mktemp("home")
    for place in (home, *home.parents[:2]):
        place.chmod(0o755)  # the executor's user passes through
    folder = home / "demo"
    folder.mkdir()
    os.chown(folder, USER, USER)
    (folder / "countries.json").write_text(json.dumps(countries()))
    made = Installation(engine, folder)
    made.figures = _FIGURES
    with made.timed("build of all images"):
        made.compose("build", "--quiet")
    try:
        with made.timed("first up until everything is healthy"):
            made.up()
        yield made
    finally:
        with made.timed("down"):
            made.try_compose("down")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long the steps took."""
    if _FIGURES:
        terminalreporter.section("docker-compose.yml on a real engine")
        for what, seconds in _FIGURES.items():
            terminalreporter.write_line(f"{seconds:8.1f} s  {what}")
