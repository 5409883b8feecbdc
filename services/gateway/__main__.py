"""Gateway as a process of its own: `python -m services.gateway` is `dataaggregator serve gateway`."""

from dataaggregator.cli import main

main(["serve", "gateway"])
