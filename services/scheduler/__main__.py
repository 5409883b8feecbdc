"""Scheduler as a process of its own: `python -m services.scheduler` is `dataaggregator serve scheduler`."""

from dataaggregator.cli import main

main(["serve", "scheduler"])
