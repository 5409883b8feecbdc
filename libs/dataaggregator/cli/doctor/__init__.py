"""`doctor`: is everything there that the platform needs? One finding a need, each with its cure."""

from dataaggregator.cli.doctor.command import doctor

__all__ = ["COMMANDS"]

COMMANDS = {"doctor": doctor}
