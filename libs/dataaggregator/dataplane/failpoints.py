"""Failpoints: named places where a run process can be made to die or lose a batch, armed by the environment only."""

import os
import signal

VARIABLE = "DATAAGGREGATOR_FAILPOINT"

KILLS = frozenset(
    {
        "load.after_begin",
        "load.mid_write",
        "load.before_commit",
        "load.after_commit",
        "load.before_receipt",
        "run.before_outcome",
    }
)
CHUNK_KILLS = frozenset({"chunk.committed", "chunk.recorded"})
"""Of loads in chunks only."""
LOSSES = frozenset({"run.drop_batch"})


class Failpoints:
    """`name[:nth]` as written in the environment: the nth passing of that place (the first without a number)."""

    def __init__(self, armed: str = "") -> None:
        name, _, nth = armed.partition(":")
        if name and name not in KILLS | CHUNK_KILLS | LOSSES:
            raise ValueError(f"{VARIABLE}: there is no failpoint {name!r}")
        self._name = name
        self._left = int(nth) if nth else 1

    @classmethod
    def from_environment(cls) -> "Failpoints":
        return cls(os.environ.get(VARIABLE, ""))

    def reached(self, name: str) -> bool:
        """True exactly once: at the armed passing of this place."""
        if name != self._name:
            return False
        self._left -= 1
        return self._left == 0

    def die_at(self, name: str) -> None:
        """The process is gone at once, as by the kernel's out-of-memory killer: nothing is flushed or closed."""
        if self.reached(name):
            os.kill(os.getpid(), signal.SIGKILL)
