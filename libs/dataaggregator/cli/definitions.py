"""Commands about definitions: try connectors, try transformations, approve changes of schema."""

from pathlib import Path
from typing import Any

import click
import yaml

from dataaggregator.cli.files import read_yaml
from dataaggregator.cli.output import apart, console, emit_json, table
from dataaggregator.cli.session import EXIT_FAILED, EXIT_WRONG_USE, Session, command

Json = dict[str, Any]


@click.group("connectors")
def connectors() -> None:
    """List connectors and try them."""


@connectors.command("list")
@command
async def list_connectors(session: Session) -> None:
    """List the connectors of the workspace."""
    async with session.client() as client:
        items = [item async for item in client.pages("/api/connectors")]
    if session.json:
        emit_json(items)
    else:
        console().print(table(("name", "type", "id"), ((item["name"], item["type"], item["id"]) for item in items)))


@connectors.command("test")
@click.argument("connector")
@command
async def test_connector(session: Session, connector: str) -> None:
    """Try CONNECTOR step by step: resolve, connect, log in, list; exit 1 if one fails."""
    async with session.client() as client:
        result = await client.post(f"/api/connectors/{connector}/test")
    if session.json:
        emit_json(result)
    else:
        lines = [(check["name"], check["ok"], check["duration_ms"], check["detail"]) for check in result["checks"]]
        console().print(table(("check", "ok", "ms", "detail"), lines))
    if not result["ok"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@connectors.command("discover")
@click.argument("connector")
@command
async def discover_streams(session: Session, connector: str) -> None:
    """List the streams of CONNECTOR, freshly looked up."""
    async with session.client() as client:
        path = f"/api/connectors/{connector}/streams"
        streams = [stream async for stream in client.pages(path, refresh=True)]
    if session.json:
        emit_json(streams)
        return
    lines = [(stream["name"], stream["primary_key"], stream["estimated_rows"]) for stream in streams]
    console().print(table(("stream", "primary key", "rows (estimate)"), lines))


@connectors.command("preview")
@click.argument("connector")
@click.argument("stream")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, 1000))
@command
async def preview_stream(session: Session, connector: str, stream: str, limit: int) -> None:
    """Show the first rows of STREAM."""
    async with session.client() as client:
        answer = await client.post(f"/api/connectors/{connector}/preview", {"stream": stream, "limit": limit})
    if session.json:
        emit_json(answer)
    else:
        print_rows(answer["rows"])


def print_rows(rows: list[Json], title: str | None = None) -> None:
    """Rows as a table, columns in the order of the first row."""
    columns = list(rows[0]) if rows else []
    console().print(table(columns, ([row.get(column) for column in columns] for row in rows), title))


@click.group("transform")
def transform() -> None:
    """Work on transformations."""


@transform.command("test")
@click.argument("transformation")
@click.option(
    "-d", "--data", required=True, type=click.Path(exists=True, path_type=Path), help="JSON: rows, or input: rows."
)
@command
async def test_transformation(session: Session, transformation: str, data: Path) -> None:
    """Run TRANSFORMATION (a saved name, or a YAML file) on rows of yours; shows the counts of every step."""
    try:
        (sample,) = read_yaml(data.read_text())  # JSON is YAML
    except (OSError, yaml.YAMLError) as error:
        raise click.UsageError(f"{data} cannot be read: {error}") from error
    body: Json = {"sample_data": sample}
    path = f"/api/transformations/{transformation}/test"
    if Path(transformation).suffix in {".yaml", ".yml"}:
        path, body = "/api/transformations/test", _transformation(Path(transformation)) | body
    async with session.client() as client:
        result = await client.post(path, body)
    if session.json:
        emit_json(result)
    else:
        lines = [
            (step["name"], step["kind"], step["read"], step["written"], step["filtered"], step["rejected"], apart(step))
            for step in result["steps"]
        ]
        console().print(table(("step", "kind", "read", "written", "filtered", "rejected", "apart"), lines))
        print_rows(result["output"], "Output")
    if not result["balanced"]:
        raise click.exceptions.Exit(EXIT_WRONG_USE)


def _transformation(file: Path) -> Json:
    try:
        (found,) = read_yaml(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise click.UsageError(f"{file} is a mapping with the steps of one transformation.")
    return found


@click.command("approve")
@click.argument("pipeline")
@click.option("--field", "fields", multiple=True, help="Only the changes of this column; can be given several times.")
@command
async def approve_schema(session: Session, pipeline: str, fields: tuple[str, ...]) -> None:
    """Approve the changes of schema that wait at PIPELINE, so that its runs make them."""
    path = f"/api/pipelines/{pipeline}"
    async with session.client() as client:
        waiting = (await client.get(path))["schema_changes"]
        chosen = [one for one in waiting if not fields or one["field"] in fields]
        after = await client.post(f"{path}/schema/approve", {"changes": chosen} if fields else {})
    if session.json:
        emit_json(after)
        return
    lines = [(one["stream"], one["kind"], one["field"], one["before"], one["after"]) for one in chosen]
    console().print(table(("stream", "change", "column", "before", "after"), lines))
    click.echo(f"{after['name']} is {after['status']}.")


COMMANDS = {"approve": approve_schema, "connectors": connectors, "transform": transform}
