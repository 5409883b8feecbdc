"""Another workspace's run beside the bombs: a process of its own, at work until its stdin ends; it says how it went."""

import json
import select
import sys
from pathlib import Path

import pyarrow as pa

from dataaggregator.errors import PlatformError
from tests.integration.sandbox.pythons import PythonSteps, python

AT_WORK = "at work"
FLOW = pa.table({"id": [1, 2, 3]})
PAUSE_SECONDS = 0.02


def harm_done(steps: PythonSteps) -> list[str]:
    """By one load, if any."""
    body = "return rows.append_column('x', pc.add(rows['id'], 1))"
    try:
        rows = [row["x"] for row in steps([python(body)], FLOW).values]
    except PlatformError as error:
        return [str(error)]
    return [] if rows == [2, 3, 4] else [f"other rows: {rows}"]


def main(folder: Path) -> None:
    """The first line is said when it has come to work, the second when it is over."""
    steps, done = PythonSteps(folder), 1
    harm = harm_done(steps)
    sys.stdout.write(f"{AT_WORK}\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        harm += harm_done(steps)
        done += 1
    harm += ["it was started again"] * (steps.starts - 1)
    steps.close()
    json.dump({"done": done, "harm": harm}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
