"""What must hold when every fault has healed; one check for all fault tests.

I1 the destination equals the oracle · I2 the ledger adds up · I3 each event is applied once · I4 versions have no holes
· I5 one row a slot · I6 one epoch commits · I7 no run is stuck · I8 no delivery is held over 30 seconds · I9 no canary
secret anywhere · I10 nothing is left behind: no staging table, no open transaction, no process of a dead platform.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.rabbitmq import Broker
from tests.faults.invariants.canaries import check_canaries, encodings
from tests.faults.invariants.compositions import CANNOT, NO_ROWS
from tests.faults.invariants.events import (
    Bus,
    check_deliveries,
    check_events,
    check_order,
    check_sequences,
    check_versions,
    settled,
)
from tests.faults.invariants.leftovers import (
    ancestors,
    check_nothing_left,
    first_run_process,
    kill_if_alive,
    orphans,
    own_run_processes,
    run_processes,
)
from tests.faults.invariants.loads import (
    Connection,
    Copied,
    Loaded,
    check_copy,
    check_destination,
    check_epochs,
    check_ledger,
    check_ledgers,
    check_winners,
)
from tests.faults.invariants.runs import check_mirrors, check_runs_end, check_slots

__all__ = [
    "CANNOT",
    "CHECKS",
    "NO_ROWS",
    "Bus",
    "Connection",
    "Copied",
    "Healed",
    "Loaded",
    "ancestors",
    "check",
    "check_canaries",
    "check_deliveries",
    "check_destination",
    "check_events",
    "check_ledger",
    "check_mirrors",
    "check_nothing_left",
    "check_order",
    "check_runs_end",
    "check_sequences",
    "check_slots",
    "check_versions",
    "checked",
    "encodings",
    "first_run_process",
    "kill_if_alive",
    "orphans",
    "own_run_processes",
    "run_processes",
    "settled",
]

checked: list[str] = []
"""What was looked at in this process, so that a row that ends without it is found."""


@dataclass(frozen=True)
class Healed:
    """What has had its faults, and where to look; `made_of` is one of CANNOT."""

    made_of: str
    connection: Connection
    """To the platform's database."""
    bus: Bus = field(default_factory=lambda: Bus({}))
    warehouse: "Connection | None" = None
    loaded: Sequence[Loaded] = ()
    """In the warehouse."""
    copied: Sequence[Copied] = ()
    home: Path | None = None
    pid: int | None = None
    """Whose the run processes below the home are; None if nobody's may be left."""
    secrets: Collection[str] = ()
    files: Sequence[Path] = ()
    broker: tuple[Broker, str] | None = None
    """With the virtual host; None where another try of the same row asks it: its figures are seconds old."""


async def check(healed: Healed) -> None:
    """All that can apply, once it is at rest: every row of the fault matrix ends with this."""
    for name, look in CHECKS.items():
        if name not in CANNOT[healed.made_of]:
            await look(healed)
    checked.append(healed.made_of)


async def _destinations(healed: Healed) -> None:
    assert healed.loaded or healed.copied, "I1: the row does not say what it loads"
    for one in healed.loaded:
        assert healed.warehouse is not None
        await check_destination(healed.warehouse, one.table, one.oracle)
    for each in healed.copied:
        check_copy(each)


async def _epochs(healed: Healed) -> None:
    await check_winners(healed.connection)
    for one in healed.loaded:
        if healed.warehouse is not None and one.run_id is not None:
            await check_epochs(healed.connection, healed.warehouse, one)


async def _deliveries(healed: Healed) -> None:
    if healed.broker is not None:
        await check_deliveries(*healed.broker)


async def _canaries(healed: Healed) -> None:
    assert healed.secrets, "I9: the row does not say what must be kept"
    await check_canaries(healed.connection, healed.secrets, healed.files, healed.pid)


async def _leftovers(healed: Healed) -> None:
    assert healed.home is not None
    await check_nothing_left(healed.warehouse, healed.home, healed.pid)


CHECKS: Mapping[str, Callable[[Healed], Awaitable[None]]] = {
    "I7": lambda healed: check_runs_end(healed.connection),
    "I3": lambda healed: check_events(healed.connection, healed.bus),
    "I4": lambda healed: check_versions(healed.connection),
    "mirrors": lambda healed: check_mirrors(healed.connection),
    "I5": lambda healed: check_slots(healed.connection),
    "I1": _destinations,
    "I2": lambda healed: check_ledgers(healed.connection),
    "I6": _epochs,
    "I8": _deliveries,
    "I9": _canaries,
    "I10": _leftovers,
}
"""The runs first: what they load and say is at rest when they have ended."""
