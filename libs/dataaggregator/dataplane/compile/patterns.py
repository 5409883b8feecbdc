"""Which streams are meant by patterns as in a shell, and by patterns of what is left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dataaggregator.contracts.replicate import LEAVES_OUT, names_of


@dataclass(frozen=True)
class Patterns:
    """What is left out is left out wherever in the list that stands. A name with quotes fits with them or without."""

    named: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, written: Sequence[str]) -> "Patterns":
        left_out = tuple(one.removeprefix(LEAVES_OUT) for one in written if one.startswith(LEAVES_OUT))
        return cls(tuple(one for one in written if not one.startswith(LEAVES_OUT)), left_out)

    def fit(self, stream: str) -> bool:
        return _fits(stream, self.named) and not self.leave_out(stream)

    def leave_out(self, stream: str) -> bool:
        return _fits(stream, self.left_out)


def _fits(stream: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names_of(stream))
