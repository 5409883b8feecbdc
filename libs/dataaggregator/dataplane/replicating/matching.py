"""Which streams of a source are meant: patterns as in a shell, and patterns of what is left out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dataaggregator.connector.source import Source, StreamInfo
from dataaggregator.contracts.replicate import LEAVES_OUT

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


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
        return _fits(stream, self.named) and not _fits(stream, self.left_out)


@dataclass(frozen=True)
class Found:
    """The streams that are meant, by name, and the patterns that fit none."""

    streams: tuple[StreamInfo, ...]
    idle: tuple[str, ...]


async def find(source: Source, patterns: Patterns) -> Found:
    """The source is asked pattern by pattern: to list all that it has may cost it a call for each."""
    found: dict[str, StreamInfo] = {}
    idle: list[str] = []
    for pattern in patterns.named:
        fitting = [stream for stream in await source.discover(pattern) if patterns.fit(stream.name)]
        found |= {stream.name: stream for stream in fitting}
        if not fitting:
            idle.append(pattern)
    return Found(tuple(found[name] for name in sorted(found)), tuple(idle))


def _fits(stream: str, patterns: Sequence[str]) -> bool:
    plain = _QUOTED.sub(lambda part: part[1].replace('""', '"'), stream)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in {stream, plain})
