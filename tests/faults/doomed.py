"""`dataaggregator` that dies at a named place of an apply: `python -m tests.faults.doomed PLACE serve SERVICE`.

Without a place (an empty word) it lives; either way what the dead held is free for others after seconds.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dataaggregator.bus import consumer
from dataaggregator.cli import main
from services.connectors.commands import ConnectorCommands
from services.gateway.forward import Upstreams
from services.scheduler.applying import store
from services.scheduler.applying.commands import ApplyCommands
from services.scheduler.applying.owner import ConnectorsOwner
from services.scheduler.applying.saving import Saving
from tests.faults.mortal import around

TURN_SECONDS = 10.0
CLAIM_SECONDS = 5.0
CONNECTORS = 3
"""So many the apply has that dies with a half of them saved."""


@dataclass(frozen=True)
class Place:
    """The nth passing of a place; both services do everything once to check it, and then again to keep it."""

    service: str
    owner: type[Any]
    method: str
    when: Literal["before", "after"]
    nth: int = 1


PLACES: Mapping[str, Place] = {
    "before it is forwarded": Place("gateway", Upstreams, "fetch", "before"),
    "answered and not passed on": Place("gateway", Upstreams, "fetch", "after"),
    "the turn taken": Place("scheduler", ApplyCommands, "_check", "before"),
    "all checked": Place("scheduler", ApplyCommands, "_check", "after"),
    "before connectors are saved": Place("scheduler", ConnectorsOwner, "apply", "before", 2),
    "connectors asked to save": Place("connectors", ConnectorCommands, "apply", "before", 2),
    "a half of the connectors saved": Place("connectors", ConnectorCommands, "_apply", "before", CONNECTORS + 2),
    "connectors committed and not told": Place("connectors", ConnectorCommands, "apply", "after", 2),
    "connectors saved": Place("scheduler", ConnectorsOwner, "apply", "after", 2),
    "all saved and not committed": Place("scheduler", Saving, "run", "after", 2),
    "committed and not answered": Place("scheduler", ApplyCommands, "_save_own", "after"),
}


def doom(place: Place) -> None:
    passed = 0

    async def die() -> None:
        nonlocal passed
        passed += 1
        if passed == place.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    around(place.owner, place.method, **{place.when: die})


if __name__ == "__main__":
    store.TURN_SECONDS = TURN_SECONDS  # type: ignore[misc, unused-ignore]
    consumer.CLAIM_SECONDS = CLAIM_SECONDS  # type: ignore[misc, unused-ignore]
    named = sys.argv.pop(1)
    if named:
        doom(PLACES[named])
    main()
