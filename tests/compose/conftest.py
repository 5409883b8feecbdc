"""`make test-compose` only: an engine needs root and a few minutes, so `make test` leaves these tests out."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataaggregator.cli.demo.world import countries
from deploy.local import debian
from deploy.local.docker import CGROUP, FORWARDING, PARTS, RUN, STRAY, DockerEngine, Traces, link_programs, why_not
from tests.compose import images
from tests.compose.installation import USER, Installation

collect_ignore_glob = [] if os.environ.get("COMPOSE") else ["test_*.py"]
_FIGURES: dict[str, float] = {}


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    before = _machine()
    with DockerEngine(debian.cache_folder().parent / "docker") as engine:
        with _timed("images to begin with, where there are none yet"):
            images.prepare(engine)
        yield engine
    after = _machine()
    # An empty table of rules is as good as none.
    after["rules"] = "" if not before["rules"] and "-A" not in after["rules"] else after["rules"]
    assert after == before, "the engine left traces"


def _machine() -> dict[str, str]:
    """What an engine could have changed."""
    root = debian.fetch("docker.io", PARTS, link_programs)
    return {
        "links": " ".join(sorted(link.name for link in Path("/sys/class/net").iterdir())),
        "forwarding": FORWARDING.read_text(),
        "stray": " ".join(str(path) for path in (RUN, *STRAY) if path.exists()),
        "mounts": "".join(sorted(line for line in Path("/proc/mounts").read_text().splitlines() if "docker" in line)),
        "groups": " ".join(map(str, Path("/sys/fs/cgroup").glob(f"**/{CGROUP}"))),
        "rules": Traces(root, Path("unused")).rules(),
    }


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    _FIGURES[what] = time.monotonic() - begun


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
