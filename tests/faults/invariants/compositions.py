"""What rows of the fault matrix are made of, and which invariants cannot apply to each, with why: the one table."""

from collections.abc import Mapping

_NO_BROKER = "the outbox is delivered in process: nobody holds a delivery"
_NO_SCHEDULER = "there is no scheduler: runs come as if it had asked for them"
_NO_LOADS = "nothing is loaded"
_NO_RUNS = "there are no runs"
_NO_LISTENER = "no relay and no consumer is at work"

LOADS = ("I1", "I2", "I6", "I10")
CANNOT: Mapping[str, Mapping[str, str]] = {
    "the whole platform": {},
    "the whole platform, about events": {"I1": _NO_LOADS},
    "the embedded platform": {"I8": _NO_BROKER},
    "an executor": {"I5": _NO_SCHEDULER, "mirrors": _NO_SCHEDULER, "I8": _NO_BROKER},
    "an executor beside an embedded platform": {
        "I3": "each of the two delivers what either says to its own services only: such two are no installation",
        "I7": "so the scheduler hears of no end; the row waits for the end that the executors know",
        "mirrors": "so the scheduler hears of no end",
        "I8": _NO_BROKER,
    },
    "three small services on the broker": {
        **dict.fromkeys(LOADS, _NO_LOADS),
        **dict.fromkeys(("I5", "I7", "mirrors"), _NO_RUNS),
        "I9": "they have no secrets: their events are made of numbers",
    },
    "schedulers": {
        **dict.fromkeys(LOADS, "nobody takes the runs that are asked for"),
        **dict.fromkeys(("I3", "I8", "mirrors"), _NO_LISTENER),
        "I7": "nobody takes the runs that are asked for",
        "I9": "they open no connector",
    },
    "auth and who asks it": {
        **dict.fromkeys(LOADS, _NO_LOADS),
        **dict.fromkeys(("I5", "I7", "mirrors"), _NO_RUNS),
        "I8": _NO_BROKER,
    },
}

NO_ROWS: Mapping[str, str] = {
    "test_clock_changes": "fires are computed: there is nothing that a fault could leave behind",
    "test_lease_machine": "a model says after each step what must be stored",
    "test_lifecycle_machine": "a model says after each step what must be stored",
    "test_relay_machine": "a model says after each step what must be applied",
    "test_scheduler_machine": "a model says after each step what must be decided; I4 and I5 are looked at as well",
}
"""Modules of this folder that kill nothing that stays."""
