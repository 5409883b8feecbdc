"""The bill of materials of what an image installs, in CycloneDX 1.6, from the lock and nothing else.

python -m deploy.supply.sbom > build/sbom.cdx.json
"""

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).parent.parent.parent
SPEC_VERSION = "1.6"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Pin:
    """One line of a lock: a distribution in one version, where it is installed, and the hashes of its files."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def pins(lock: str) -> Iterator[Pin]:
    """What a lock pins; raises ValueError for a line that pins nothing to a hash."""
    for line in re.sub(r"\\\n", " ", lock).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pinned, hashes = _PIN.match(line), tuple(_HASH.findall(line))
        if pinned is None or not hashes:
            raise ValueError(f"not a pinned distribution with its hashes: {line[:80]}")
        marker = pinned["marker"]
        name = normal(pinned["name"])
        yield Pin(name, pinned["version"], marker.split("--hash")[0].strip() if marker else None, hashes)


def normal(name: str) -> str:
    """A distribution's name as all spellings of it are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def document(lock: str, project: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the same lock and project, whoever makes it and when."""
    found = sorted(pins(lock), key=lambda pin: (pin.name, pin.version))
    by_name = {pin.name: pin.purl for pin in found}
    wanted = [normal(match[0]) for one in project["dependencies"] if (match := _NAME.match(one))]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    serial = uuid5(NAMESPACE_URL, own + hashlib.sha256(lock.encode()).hexdigest())
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [_component(pin) for pin in found],
        "dependencies": [{"ref": own, "dependsOn": sorted(by_name[name] for name in wanted)}],
    }


def _component(pin: Pin) -> dict[str, Any]:
    """Hashes are those of all files that may be installed, one a platform, so that none is the component's own."""
    properties = [{"name": "dataaggregator:lock:sha256", "value": value} for value in pin.hashes]
    if pin.marker is not None:
        properties.append({"name": "dataaggregator:lock:marker", "value": pin.marker})
    return {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.purl,
        "properties": properties,
    }


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made = document((ROOT / "requirements.lock").read_text(), project)
    sys.stdout.write(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
