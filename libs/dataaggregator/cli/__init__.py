"""The command line: one group, a room for each family of commands."""

from dataaggregator.cli.root import main

__all__ = ["main"]
