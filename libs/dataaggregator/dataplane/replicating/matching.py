"""Which streams of a source are meant: those that it lists now, held against the patterns."""

from dataclasses import dataclass

from dataaggregator.connector.source import Source, StreamInfo
from dataaggregator.dataplane.compile.patterns import Patterns


@dataclass(frozen=True)
class Found:
    """The streams that are meant, by name, the patterns that fit none, and what was found and is left out."""

    streams: tuple[StreamInfo, ...]
    idle: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


async def find(source: Source, patterns: Patterns) -> Found:
    """The source is asked pattern by pattern: to list all that it has may cost it a call for each."""
    found: dict[str, StreamInfo] = {}
    left_out: set[str] = set()
    idle: list[str] = []
    for pattern in patterns.named:
        listed = await source.discover(pattern)
        fitting = [stream for stream in listed if patterns.fit(stream.name)]
        found |= {stream.name: stream for stream in fitting}
        left_out |= {stream.name for stream in listed if patterns.leave_out(stream.name)}
        if not fitting:
            idle.append(pattern)
    return Found(tuple(found[name] for name in sorted(found)), tuple(idle), tuple(sorted(left_out)))
