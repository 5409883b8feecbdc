"""Commands about what is sealed with SECRET_KEY."""

from dataclasses import asdict

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.platform import telling
from dataaggregator.cli.session import EXIT_FAILED, Session


@click.group("secrets")
def secrets() -> None:
    """Look after what is sealed with SECRET_KEY."""


@secrets.command("rotate")
@click.pass_obj
def rotate(session: Session) -> None:
    """Seal with the present SECRET_KEY whatever an earlier one (SECRET_KEY_PREVIOUS) has sealed.

    On this machine, by its database, whether or not the platform runs. Stopped in the middle it goes on at the next
    call; once all is sealed anew it changes nothing. Exits 1 if there is something that none of the keys opens.
    """
    # Databases and compositions are imported by who needs them.
    from dataaggregator.cli.operator import rotate_secrets  # noqa: PLC0415

    found = telling(rotate_secrets)
    unreadable = [f"{one.table}: {row}" for one in found for row in one.unreadable]
    if session.json:
        emit_json([asdict(one) for one in found])
    else:
        rows = [(one.table, one.resealed, len(one.unreadable)) for one in found]
        console().print(table(("table", "sealed anew", "unreadable"), rows))
        for one in unreadable:
            click.echo(f"none of the keys opens the secret of {one}", err=True)
        if not unreadable:
            click.echo("All is sealed with the present SECRET_KEY: SECRET_KEY_PREVIOUS is needed no more.")
    if unreadable:
        raise click.exceptions.Exit(EXIT_FAILED)


COMMANDS = {"secrets": secrets}
