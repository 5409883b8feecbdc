"""Connectors as a process of its own: `python -m services.connectors` is `dataaggregator serve connectors`."""

from dataaggregator.cli import main

main(["serve", "connectors"])
