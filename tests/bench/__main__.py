"""`python -m tests.bench`: all benchmarks one after the other; each can also be run by its own module."""

import runpy
import sys
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        sys.argv = [path.name]
        print(f"\n{path.stem} ...", file=sys.stderr, flush=True)
        runpy.run_module(f"tests.bench.{path.stem}", run_name="__main__")


if __name__ == "__main__":
    main()
