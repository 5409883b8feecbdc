"""Commands about definitions: apply files, try connectors, try transformations."""

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import click
import yaml

from dataaggregator.cli.output import apart, console, emit_json, table
from dataaggregator.cli.session import EXIT_FAILED, EXIT_WRONG_USE, Session, command
from dataaggregator.client import ApiError, Client

Json = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: `on` is a word, the field of a join."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

KINDS = ("connectors", "transformations", "pipelines")  # the order in which they need each other


@click.command("apply")
@click.option("-f", "--file", "files", multiple=True, required=True, type=click.Path(exists=True, path_type=Path))
@command
async def apply_files(session: Session, files: tuple[Path, ...]) -> None:
    """Create or change what the YAML files define: connectors, transformations, pipelines, by name."""
    definitions = read_definitions(files)
    async with session.client() as client:
        report = await apply_definitions(client, definitions)
    if session.json:
        emit_json(report)
    else:
        for line in report:
            click.echo(f"{line['outcome']:<10} {line['kind']} {line['name']}")


def read_definitions(files: tuple[Path, ...]) -> Json:
    """Read the files' documents; each is a mapping with some of `connectors`, `transformations`, `pipelines`."""
    definitions: Json = {kind: [] for kind in KINDS}
    for file in files:
        try:
            documents = list(read_yaml(file.read_text()))
        except (OSError, yaml.YAMLError) as error:
            raise click.UsageError(f"{file} cannot be read: {error}") from error
        for document in documents:
            if document is None:
                continue
            if not isinstance(document, dict) or not set(document) <= set(KINDS):
                raise click.UsageError(f"{file}: at the top stand only {', '.join(KINDS)}, each with a list.")
            for kind, items in document.items():
                definitions[kind] += _checked(file, kind, items)
    return definitions


def read_yaml(text: str) -> Iterator[Any]:
    """The documents of a YAML text."""
    yield from yaml.load_all(text, _Loader)


def _checked(file: Path, kind: str, items: object) -> list[Json]:
    if not isinstance(items, list):
        raise click.UsageError(f"{file}: {kind} is a list of definitions.")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise click.UsageError(f"{file}: every entry of {kind} is a mapping with a name.")
    return items


async def apply_definitions(client: Client, definitions: Json) -> list[Json]:
    """Save all of them in the order in which they need each other; stops at the first that is refused."""
    report = []
    for kind in KINDS:
        for definition in in_order(definitions[kind]):
            try:
                saved, new = await client.save(f"/api/{kind}", definition)
            except ApiError as error:
                raise ApiError(
                    {**error.problem, "detail": f"{kind} {definition['name']}: {error}", "errors": []}
                ) from error
            report.append({"kind": kind[:-1], "name": saved["name"], "outcome": "created" if new else "saved"})
    return report


def in_order(definitions: list[Json]) -> list[Json]:
    """Those that others of them come after first; in a circle nobody is first, which the server says better."""
    known = {definition["name"]: definition for definition in definitions}
    if len(known) < len(definitions):
        return definitions
    needs = {name: _comes_after(definition) & known.keys() - {name} for name, definition in known.items()}
    try:
        return [known[name] for name in TopologicalSorter(needs).static_order()]
    except CycleError:
        return definitions


def _comes_after(definition: Json) -> set[str]:
    triggers = definition.get("triggers")
    named = [one.get("after") for one in triggers if isinstance(one, dict)] if isinstance(triggers, list) else []
    return {name for names in named if isinstance(names, list) for name in names if isinstance(name, str)}


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


COMMANDS = {"apply": apply_files, "approve": approve_schema, "connectors": connectors, "transform": transform}
