"""Auth as a process of its own: `python -m services.auth` is `dataaggregator serve auth`."""

from dataaggregator.cli import main

main(["serve", "auth"])
