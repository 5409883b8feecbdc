"""The services installed beside the kit: found by entry point, never imported by name."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from dataaggregator.errors import Invalid
from dataaggregator.ports import Ports
from dataaggregator.service import Service

GROUP = "dataaggregator.services"


@dataclass(frozen=True)
class InstalledService:
    """One service: what builds it, and where its migrations lie (None when it owns no schema)."""

    entry_point: EntryPoint

    @property
    def name(self) -> str:
        """Its name, which is also the name of the schema it owns."""
        return self.entry_point.name

    @property
    def migrations(self) -> Path | None:
        """The folder of its migrations, found without importing the service."""
        package = self.entry_point.module.rpartition(".")[0]
        spec = importlib.util.find_spec(package)
        folders = [Path(place) / "migrations" for place in (spec.submodule_search_locations if spec else None) or ()]
        return next((folder for folder in folders if folder.is_dir()), None)

    def build(self, ports: Ports) -> Service:
        """Make the service with the ports of a composition."""
        made = cast("Callable[[Ports], Service]", self.entry_point.load())
        return made(ports)


def installed_services() -> list[InstalledService]:
    """All of them, by name."""
    return [InstalledService(found) for found in sorted(entry_points(group=GROUP), key=lambda found: found.name)]


def installed(names: Sequence[str]) -> list[InstalledService]:
    """Those of these names, in their order; raises Invalid for one that there is not."""
    known = {service.name: service for service in installed_services()}
    for name in names:
        if name not in known:
            raise Invalid("not-found", f"There is no service {name}. There are: {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)]
