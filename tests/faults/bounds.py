"""How soon a run ends after something has died: the formulas that docs/guarantees/recovery.md publishes, said once.

Names in capitals are settings, the others parts that are the same everywhere; `down` is how long nothing of the kind
that died was at work.
"""

from collections.abc import Mapping

from dataaggregator.bus import consumer, loops, relay
from dataaggregator.bus.rabbitmq import arrivals, link
from dataaggregator.db import database
from dataaggregator.settings import Settings
from services.executor import worker
from services.executor.reaper import ReaperTimes

FORMULAS: Mapping[str, str] = {
    "an executor": "max(LEASE_SECONDS, down + HEARTBEAT_SECONDS) + look + poll + RELAY_POLL_SECONDS + pause",
    "a scheduler": "max(silent, down) + retry + RELAY_POLL_SECONDS + pause",
    "the broker": "down + silent + connect + retry + RELAY_POLL_SECONDS + pause",
    "PostgreSQL": (
        "max(LEASE_SECONDS, down + DB_SILENCE_SECONDS + database + HEARTBEAT_SECONDS)"
        " + look + poll + RELAY_POLL_SECONDS + pause"
    ),
}
PARTS: Mapping[str, float] = {
    "look": ReaperTimes.look_seconds + ReaperTimes.slow_seconds,
    "poll": worker.POLL_SECONDS,
    "pause": relay.PAUSE_SECONDS,
    "retry": loops.LONGEST_WAIT_SECONDS,
    "silent": 4.0 * link.HEARTBEAT_SECONDS,
    "connect": link.CONNECT_SECONDS + link.PREPARE_SECONDS + arrivals.PAUSE_SECONDS,
    "database": database.CONNECT_SECONDS,
    "claim": consumer.CLAIM_SECONDS,
}


def bound_seconds(what: str, settings: Settings, down_seconds: float = 0.0) -> float:
    """How soon a run ends after the death of `what`, beside the time that its own work takes."""
    values = {name.upper(): value for name, value in settings.model_dump().items() if isinstance(value, float)}
    names = {"max": max, "down": down_seconds, **PARTS, **values}
    return float(eval(FORMULAS[what], {"__builtins__": {}}, names))  # noqa: S307 - our own formulas
