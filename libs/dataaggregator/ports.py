"""What a composition gives to every service."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataaggregator.clock import Clock
from dataaggregator.directory import Directory
from dataaggregator.limits import Limits
from dataaggregator.revocations import Revocations
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings

if TYPE_CHECKING:
    from dataaggregator.bus import Bus
    from dataaggregator.db import Database


@dataclass(frozen=True)
class Ports:
    """The adapters of one composition; shared by the services that run in one process."""

    settings: Settings
    database: "Database"
    bus: "Bus"
    limits: Limits
    revocations: Revocations
    directory: Directory
    keys: KeyRing
    clock: Clock
