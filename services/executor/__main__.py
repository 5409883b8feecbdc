"""Executor as a process of its own: `python -m services.executor` is `dataaggregator serve executor`."""

from dataaggregator.cli import main

main(["serve", "executor"])
