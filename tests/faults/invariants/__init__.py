"""What must hold when every fault has healed; one check for all fault tests.

I1 the destination equals the oracle · I2 the ledger adds up · I3 each event is applied once · I4 versions have no holes
· I5 one row a slot · I6 one epoch commits · I7 no run is stuck · I8 no delivery is held over 30 seconds · I9 no canary
secret anywhere · I10 nothing is left behind: no staging table, no open transaction, no process of a dead platform.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.rabbitmq import Broker
from tests.faults.invariants.canaries import check_canaries, encodings
from tests.faults.invariants.events import Bus, check_deliveries, check_events, check_order, check_sequences, settled
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
    Json,
    Loaded,
    check_destination,
    check_epochs,
    check_ledger,
)
from tests.faults.invariants.runs import check_mirrors, check_runs_end, check_slots

__all__ = [
    "Bus",
    "Connection",
    "Loaded",
    "Platform",
    "ancestors",
    "check",
    "check_canaries",
    "check_deliveries",
    "check_destination",
    "check_epochs",
    "check_events",
    "check_ledger",
    "check_mirrors",
    "check_nothing_left",
    "check_order",
    "check_platform",
    "check_runs_end",
    "check_sequences",
    "check_slots",
    "encodings",
    "first_run_process",
    "kill_if_alive",
    "orphans",
    "own_run_processes",
    "run_processes",
    "settled",
]


@dataclass(frozen=True)
class Platform:
    """A whole platform that has had its faults: its database, its bus, and what it must have kept to itself."""

    connection: Connection
    bus: Bus
    secrets: Collection[str] = ()
    files: Sequence[Path] = ()
    pid: int | None = None
    broker: tuple[Broker, str] | None = None
    """With the virtual host."""


async def check(connection: Connection, loaded: Loaded, ledger: Json, home: Path, platform_pid: int | None) -> None:
    """What holds for one load (I1, I2, I6, I10), the most telling first."""
    await check_destination(connection, loaded.table, loaded.oracle)
    check_ledger(ledger)
    await check_epochs(connection, loaded, ledger)
    await check_nothing_left(connection, home, platform_pid)


async def check_platform(platform: Platform) -> None:
    """What holds for the platform (I3, I4, I5, I7, I8, I9), once it is at rest."""
    connection = platform.connection
    await check_runs_end(connection)
    await check_events(connection, platform.bus)
    await check_mirrors(connection)
    await check_slots(connection)
    if platform.broker is not None:
        await check_deliveries(*platform.broker)
    await check_canaries(connection, platform.secrets, platform.files, platform.pid)
