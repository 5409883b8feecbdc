"""Pipelines as code: apply the definitions of files, and show what that would change."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from dataaggregator.cli.files import Document, read_documents
from dataaggregator.cli.output import emit_json
from dataaggregator.cli.session import EXIT_FAILED, Session, command
from dataaggregator.client import ApiError, Client

Json = dict[str, Any]
MARKS = {"created": "+", "updated": "~", "unchanged": "="}
FROM_FILES = click.option(
    "-f", "--file", "files", multiple=True, required=True, type=click.Path(exists=True, path_type=Path),
    help="YAML, or a folder of it; can be given several times.",
)  # fmt: skip
_PLACE = re.compile(r"^definitions\[(\d+)\]\.?")


@click.command("apply")
@FROM_FILES
@click.option("--dry-run", is_flag=True, help="Only tell what would change, as diff does.")
@command
async def apply_files(session: Session, files: tuple[Path, ...], dry_run: bool) -> None:
    """Save what the files define, by name: connectors, transformations, pipelines; all of it, or nothing."""
    await _apply(session, files, dry_run=dry_run)


@click.command("diff")
@FROM_FILES
@click.option("--exit-code", is_flag=True, help="Exit 1 if something would change.")
@command
async def diff_files(session: Session, files: tuple[Path, ...], exit_code: bool) -> None:
    """Show what applying the files would change, field by field, and change nothing."""
    told = await _apply(session, files, dry_run=True)
    if exit_code and any(one["outcome"] != "unchanged" for one in told["changes"]):
        raise click.exceptions.Exit(EXIT_FAILED)


async def apply_documents(client: Client, documents: Sequence[Document], *, dry_run: bool = False) -> Json:
    """What has changed, or would; raises ApiError naming each wrong field by its file and definition."""
    body = {"definitions": [one.definition for one in documents], "dry_run": dry_run}
    try:
        told: Json = await client.post("/api/apply", body)
    except ApiError as error:
        wrong = [{**one, "field": _named(one["field"], documents)} for one in error.problem.get("errors") or ()]
        raise ApiError({**error.problem, "errors": wrong}) from error
    return told


async def _apply(session: Session, files: Sequence[Path], *, dry_run: bool) -> Json:
    documents = read_documents(files)
    async with session.client() as client:
        told = await apply_documents(client, documents, dry_run=dry_run)
    if session.json:
        emit_json(told)
    else:
        for line in _lines(told):
            click.echo(line)
    return told


def _named(field: str, documents: Sequence[Document]) -> str:
    found = _PLACE.match(field)
    return f"{documents[int(found[1])]}: {field[found.end() :]}".rstrip(": ") if found else field


def _lines(told: Json) -> Iterator[str]:
    for one in told["changes"]:
        yield f"{MARKS[one['outcome']]} {one['outcome']:<9} {one['kind']} {one['name']}"
        for field in one["fields"]:
            yield f"      {field['field']}: {_change(field)}"
    if told["broke_off_at"] is not None:
        what = "is not completed yet" if told["dry_run"] else "is completed by this one"
        yield f"The apply of {told['broke_off_at']}, which broke off after its connectors were saved, {what}."
    if told["dry_run"]:
        yield "Nothing was changed."


def _change(field: Json) -> str:
    before, after = (orjson.dumps(field[side]).decode() for side in ("before", "after"))
    match field["change"]:
        case "added":
            return f"+ {after}"
        case "removed":
            return f"- {before}"
        case _:
            return f"{before} -> {after}"


COMMANDS = {"apply": apply_files, "diff": diff_files}
