"""J1 to J6 and dlt beside them, as one table in docs/benchmarks.md, with what it was measured on and how.

`python -m tests.bench.record [--rows N] [--rounds N] [--page FILE]`; J5 has 200,000 at most.
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from dataaggregator.embedded.binaries import NEWEST, postgres_programs
from tests.bench import contest, peers
from tests.bench.bench_j1 import j1
from tests.bench.bench_j2 import j2
from tests.bench.bench_j3 import j3
from tests.bench.bench_j4 import j4
from tests.bench.bench_j5 import j5
from tests.bench.bench_j6 import j6
from tests.bench.peers import DLT

CONTESTS = {j1: 2_000_000, j2: 2_000_000, j3: 2_000_000, j4: 2_000_000, j5: 200_000, j6: 2_000_000}
BEGIN, END = "<!-- measured: written by tests.bench.record -->", "<!-- measured: end -->"
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
OURS = ("pyarrow", "duckdb", "asyncpg", "pgpq")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.record", description=__doc__)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(words)
    load = os.getloadavg()[0]
    found = []
    for contesting, rows in CONTESTS.items():
        found.append(asyncio.run(contest.held_alone(contesting, min(given.rows or rows, rows), given.rounds)))
        contest.tell(found[-1])
    command = " ".join(["python -m tests.bench.record", *words])
    put(given.page, f"{_measured_on(command, load)}\n\n{as_table(found)}\n{_changed(found)}")


def put(page: Path, text: str) -> None:
    """In the place of what was measured before; raises ValueError where the page has no such place."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place between {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")


def as_table(found: Sequence[contest.Figures]) -> str:
    """A line for each road, headed by what the job is; *dlt by it* is how many times as long dlt takes."""
    lines = ["| | median s | rows/s | of the limit | dlt by it | rounds, s |", "|---|---|---|---|---|---|"]
    for one in found:
        lines.append(f"| **{one.title}** | | | | | |")
        for road in one.taken:
            median = one.median(road)
            by_it = f"{one.median(DLT) / median:.1f}" if DLT in one.taken else "-"
            ratios = f"{one.of_limit(road):.2f} | {by_it}"
            lines.append(f"| {road} | {median:.2f} | {one.rows / median:,.0f} | {ratios} | {one.spread(road)} |")
    return "\n".join(lines) + "\n"


def _changed(found: Sequence[contest.Figures]) -> str:
    """Ours is held against the source by the hashes of its rows: what changed one would have no figure."""
    changed = [(one.title[:2], changes) for one in found for changes in one.changed.values() if changes]
    lines = [f"- {job}: {', '.join(changes)}" for job, changes in changed]
    return "\n".join(["What dlt changed of types and values:\n", *lines, ""]) if lines else ""


def _measured_on(command: str, load: float) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    server = subprocess.run(
        [postgres_programs(NEWEST, None) / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    packages = ", ".join(f"{name} {version(name)}" for name in OURS)
    return (
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {memory} GiB, {platform.system()}\n"
        f"{platform.release()}, load {load:.1f} before it began; Python {platform.python_version()}, "
        f"PostgreSQL {server.stdout.split()[-1]},\n{packages}{peers.told_version()}."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
