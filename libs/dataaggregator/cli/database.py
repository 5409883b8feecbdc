"""Commands about the database: where each service's schema stands, and moving it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import EXIT_FAILED, EXIT_WRONG_USE, Session
from dataaggregator.db import migrate
from dataaggregator.embedded.home import Home
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.errors import PlatformError
from dataaggregator.installed import installed_services
from dataaggregator.settings import Settings, SettingsError

T = TypeVar("T")
SERVICE = click.option("--service", help="Only this service's schema.")


@click.group("db")
def db() -> None:
    """Look at the schemas and migrate them, in DATABASE_URL or in a stopped embedded home."""


@db.command("current")
@SERVICE
@click.pass_obj
def current(session: Session, service: str | None) -> None:
    """Say at which revision each schema is, and which is the newest."""

    async def ask(url: str) -> list[tuple[str, str | None, str]]:
        return [(name, await migrate.current(url, name), migrate.head(folder)) for name, folder in _schemas(service)]

    _print(session, ("schema", "revision", "newest"), _with_database(ask))


@db.command("history")
@SERVICE
@click.pass_obj
def history(session: Session, service: str | None) -> None:
    """List the revisions of each schema, oldest first."""
    rows = [
        (name, revision.id, revision.title)
        for name, folder in _schemas(service)
        for revision in migrate.history(folder)
    ]
    _print(session, ("schema", "revision", "title"), rows)


@db.command("check")
@click.pass_obj
def check(session: Session) -> None:
    """Exit 1 if a schema is not at its newest revision."""

    async def ask(url: str) -> list[tuple[str, bool]]:
        return [(name, await migrate.check(url, name, folder)) for name, folder in _schemas(None)]

    rows = _with_database(ask)
    _print(session, ("schema", "newest"), rows)
    if not all(up_to_date for _, up_to_date in rows):
        raise click.exceptions.Exit(EXIT_FAILED)


@db.command("upgrade")
@SERVICE
@click.pass_obj
def upgrade(session: Session, service: str | None) -> None:
    """Bring each schema to its newest revision."""

    async def ask(url: str) -> list[tuple[str, bool]]:
        return [(name, await migrate.upgrade(url, name, folder)) for name, folder in _schemas(service)]

    _print(session, ("schema", "changed"), _with_database(ask))


@db.command("downgrade")
@click.option("--service", required=True, help="The service whose schema goes back.")
@click.argument("revision")
@click.confirmation_option(prompt="Going back removes columns or tables with their rows. Is there a backup?")
@click.pass_obj
def downgrade(session: Session, service: str, revision: str) -> None:
    """Take a schema back to REVISION; `base` undoes all of them."""

    async def ask(url: str) -> list[tuple[str, str | None]]:
        for name, folder in _schemas(service):
            await migrate.downgrade(url, name, folder, revision)
        return [(name, await migrate.current(url, name)) for name, _ in _schemas(service)]

    _print(session, ("schema", "revision"), _with_database(ask))


def _schemas(service: str | None) -> list[tuple[str, Path]]:
    found = [(each.name, each.migrations) for each in installed_services()]
    schemas = [(name, folder) for name, folder in found if folder is not None and service in (None, name)]
    if not schemas:
        raise click.UsageError(
            f"No service named {service} owns a schema. There are: {', '.join(n for n, _ in found)}."
        )
    return schemas


def _with_database(ask: Callable[[str], Awaitable[T]]) -> T:
    """Ask the server of the environment, else the embedded one, started for this command alone."""

    async def answer(url: str) -> T:
        return await ask(url)

    try:
        settings = Settings.load()
        if settings.database_url is not None:
            return asyncio.run(answer(settings.database_url.get_secret_value()))
        home = Home.default()
        with home.locked(), EmbeddedPostgres(home.postgres) as server:
            return asyncio.run(answer(server.url))
    except SettingsError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(EXIT_WRONG_USE) from error
    except PlatformError as error:
        click.echo(f"error: {error.detail}", err=True)
        raise click.exceptions.Exit(EXIT_WRONG_USE) from error


def _print(session: Session, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if session.json:
        emit_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        console().print(table(columns, rows))


COMMANDS = {"db": db}
