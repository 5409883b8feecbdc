"""The bill of materials: everything an image installs, once, with its hashes, the same whoever makes it."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.supply import sbom

LOCK = (sbom.ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((sbom.ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return sbom.document(LOCK, PROJECT)


def test_it_names_every_pin_of_the_lock_once(made: dict[str, Any]) -> None:
    lines = [line.split("==")[0].split("[")[0] for line in LOCK.splitlines() if "==" in line and line[0].isalnum()]
    assert [one["name"] for one in made["components"]] == sorted(map(sbom.normal, lines))
    references = [one["bom-ref"] for one in made["components"]]
    assert len(references) == len(set(references)) > 50


def test_each_component_is_known_by_its_address_and_hashes(made: dict[str, Any]) -> None:
    for one in made["components"]:
        assert one["purl"] == one["bom-ref"] == f"pkg:pypi/{one['name']}@{one['version']}"
        hashes = [item["value"] for item in one["properties"] if item["name"] == "dataaggregator:lock:sha256"]
        assert hashes
        assert all(len(value) == 64 for value in hashes)
    assert {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}.items() <= made.items()


def test_what_the_project_asks_for_is_what_it_depends_on(made: dict[str, Any]) -> None:
    (own,) = made["dependencies"]
    assert own["ref"] == made["metadata"]["component"]["bom-ref"]
    assert len(own["dependsOn"]) == len(PROJECT["dependencies"])
    assert set(own["dependsOn"]) <= {one["bom-ref"] for one in made["components"]}


def test_what_is_installed_here_is_what_it_says(made: dict[str, Any]) -> None:
    """The lock is what was installed: a component of another version would be told of here."""
    installed = {sbom.normal(one.metadata["Name"]): one.version for one in distributions()}
    told = {one["name"]: one["version"] for one in made["components"] if one["name"] in installed}
    assert len(told) > 50
    assert told == {name: installed[name] for name in told}


def test_it_is_the_same_again_and_names_no_place_that_gives_packages_out(made: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.supply.sbom"], cwd=sbom.ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == made
    hosts = {urlsplit(word.strip('",')).hostname for word in done.stdout.split() if "://" in word}
    assert hosts == {"cyclonedx.org"}


@pytest.mark.parametrize("line", ["aiohttp>=3", "aiohttp==3.14.0", "-e .", "git+https://example.org/x@1"])
def test_a_lock_that_pins_something_to_no_hash_makes_none(line: str) -> None:
    with pytest.raises(ValueError, match="not a pinned distribution"):
        sbom.document(f"{LOCK}{line}\n", PROJECT)
