"""What a benchmark prints: one table, headed by what was measured and how busy the machine was."""

import os
import statistics
from collections.abc import Sequence


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, figures to the right."""
    widths = [max(len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]
    loads = " ".join(f"{load:.2f}" for load in os.getloadavg())
    print(f"\n{title}  ({os.cpu_count()} cores; load {loads})")
    for row in (columns, ["-" * width for width in widths], *rows):
        cells = [
            text.rjust(width) if at else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip(), flush=True)


def percentiles(times: Sequence[float]) -> tuple[str, str]:
    """Median and 95th percentile of seconds, in ms."""
    return f"{statistics.median(times) * 1000:.1f}", f"{statistics.quantiles(times, n=20)[-1] * 1000:.1f}"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The rounds behind a median, lowest first."""
    return " ".join(f"{value:.{digits}f}" for value in sorted(values))
