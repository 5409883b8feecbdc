"""The root of the command line: global options, and every command by the room it lives in."""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import click

from dataaggregator.cli.session import Session

# A room is imported when one of its commands is asked for: `version` need not wait for Arrow.
ROOMS = {
    "api-keys": "keys",
    "apply": "code",
    "approve": "definitions",
    "audit": "audit",
    "backfill": "backfills",
    "backfills": "backfills",
    "bus": "bus",
    "cancel": "runs",
    "connectors": "definitions",
    "db": "database",
    "demo": "platform",
    "diff": "code",
    "doctor": "doctor",
    "events": "runs",
    "export": "moving",
    "hooks": "webhooks",
    "import": "moving",
    "logs": "runs",
    "parked": "parked",
    "plan": "plan",
    "rate-limits": "limits",
    "rejected": "rejected",
    "replay": "rejected",
    "run": "runs",
    "run-limits": "limits",
    "runs": "runs",
    "secrets": "secrets",
    "serve": "platform",
    "transform": "definitions",
    "up": "platform",
    "users": "identity",
    "verify": "runs",
    "webhooks": "webhooks",
}


class Rooms(click.Group):
    """A group whose commands are looked up in their rooms."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, sorted."""
        return sorted([*super().list_commands(ctx), *ROOMS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None if there is none."""
        if cmd_name not in ROOMS:
            return super().get_command(ctx, cmd_name)
        room = importlib.import_module(f"dataaggregator.cli.{ROOMS[cmd_name]}")
        found: click.Command = room.COMMANDS[cmd_name]
        return found


@click.group(cls=Rooms, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--url", envvar="DATAAGGREGATOR_URL", help="The gateway. Default: the platform running on this home.")
@click.option(
    "--ca-file", "authority", envvar="DATAAGGREGATOR_CA_FILE", type=click.Path(path_type=Path), metavar="FILE",
    help="Authorities (PEM) that the gateway's certificate may come from. Default: those of this machine.",
)  # fmt: skip
@click.option("--token", envvar="DATAAGGREGATOR_TOKEN", help="An access token instead of a login.")
@click.option("--workspace", envvar="DATAAGGREGATOR_WORKSPACE", help="Id or name. Default: your own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def main(context: click.Context, /, *, as_json: bool, **asked: Any) -> None:
    """Bring rows from many sources together, and be sure that every one arrived."""
    context.obj = Session(json=as_json, **asked)


@main.command()
@click.pass_obj
def version(session: Session) -> None:
    """Print the version."""
    number = importlib.metadata.version("dataaggregator")
    session.tell({"version": number}, f"dataaggregator {number}")
