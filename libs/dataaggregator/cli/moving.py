"""What leaves an installation and comes into one: its definitions as YAML, or all of it in one sealed file."""

import asyncio
import sys
from pathlib import Path

import click
import orjson

from dataaggregator.cli.files import write_yaml
from dataaggregator.cli.output import emit_json
from dataaggregator.cli.platform import telling
from dataaggregator.cli.session import Session, command
from dataaggregator.contracts.apply import KINDS
from dataaggregator.embedded.home import Home
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.moving.installation import Moved, pack, unpack
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings, SettingsError, missing

A_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("export")
@click.option("-o", "--output", type=A_FILE, help="A file. Default: print it.")
@click.option(
    "--installation",
    type=A_FILE,
    metavar="FILE",
    help="Instead: all of a stopped embedded installation, sealed with its SECRET_KEY, for import.",
)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these; can be given several times."
)
@click.option("--name", "names", multiple=True, help="Only what is called so; can be given several times.")
@click.pass_context
def export(
    context: click.Context,
    output: Path | None,
    installation: Path | None,
    kinds: tuple[str, ...],
    names: tuple[str, ...],
) -> None:
    """Write the definitions of the workspace as YAML for apply; variables stand in the place of secrets."""
    if installation is None:
        context.invoke(export_definitions, output=output, kinds=kinds, names=names)
    elif output is not None or kinds or names:
        raise click.UsageError("--output, --kind and --name are for definitions; --installation names the file itself.")
    else:
        _tell(context.obj, "exported", installation, telling(lambda: _export(installation)))
        if not context.obj.json:
            click.echo("It does not start here any more. To import it the same SECRET_KEY is needed.")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def import_installation(session: Session, file: Path) -> None:
    """Bring an exported installation, whole, into the empty database of DATABASE_URL and this home."""
    moved = telling(lambda: _import(file))
    _tell(session, "imported", file, moved)
    if moved.key_outdated:
        click.echo(
            "SECRET_KEY is another than there: what steps mask by hash comes out otherwise from now on than before.",
            err=True,
        )


@command
async def export_definitions(
    session: Session, output: Path | None, kinds: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """The definitions of the workspace, of these kinds and names."""
    async with session.client() as client:
        exported = await client.get("/api/export", kind=kinds, name=names)
    definitions = exported["definitions"]
    text = orjson.dumps(exported, option=orjson.OPT_INDENT_2).decode() if session.json else write_yaml(definitions)
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text)
    for variable in exported["variables"]:
        of = f"{variable['field']} of the connector {variable['connector']}"
        click.echo(f"set {variable['name']} where this is applied: the secret {of}", err=True)


def _export(target: Path) -> Moved:
    """From the private database of the home, or the server that the embedded platform was told to use."""
    settings, home = Settings.load(), Home.default()
    if settings.rabbitmq_url is not None:
        raise Conflict("not-embedded", "RABBITMQ_URL is set: a full installation moves with its servers' backups.")
    if settings.database_url is None and not (home.postgres / "data").is_dir():
        raise NotFound("installation-missing", f"There is no embedded installation in {home.path}.")
    with home.locked():
        key = settings.secret_key.get_secret_value() if settings.secret_key else home.secret_key()
        keys = KeyRing(key, [one.get_secret_value() for one in settings.secret_key_previous])
        if settings.database_url is not None:
            moved = asyncio.run(pack(settings.database_url.get_secret_value(), home.path, keys, target))
        else:
            with EmbeddedPostgres(home.postgres) as server:
                moved = asyncio.run(pack(server.url, home.path, keys, target))
        home.moved.write_text(f"{moved.made_at}, to {target.absolute()}\n")
    return moved


def _import(source: Path) -> Moved:
    settings, home = Settings.load(), Home.default()
    if settings.database_url is None or settings.secret_key is None:
        raise SettingsError("\n".join(missing(settings, ("database_url", "secret_key"))))
    keys = KeyRing(
        settings.secret_key.get_secret_value(), [one.get_secret_value() for one in settings.secret_key_previous]
    )
    home.make()
    return asyncio.run(unpack(settings.database_url.get_secret_value(), home.path, keys, source))


def _tell(session: Session, done: str, file: Path, moved: Moved) -> None:
    if session.json:
        emit_json({"file": str(file), **vars(moved)})
    else:
        what = f"{moved.tables} tables with {moved.rows:,} rows, {moved.files:,} files of runs"
        click.echo(f"The installation is {done}: {what} ({file}, made at {moved.made_at} by {moved.version}).")


COMMANDS = {"export": export, "import": import_installation}
