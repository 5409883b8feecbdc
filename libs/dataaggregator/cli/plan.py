"""The plan of a change: what a changed definition would do, beside the saved one, before it is applied."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from dataaggregator.cli.files import Document, read_documents
from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.runs import parse_parameters
from dataaggregator.cli.session import EXIT_FAILED, Session, command
from dataaggregator.client import ApiError, Client
from dataaggregator.contracts.dry_run import MOST_SAMPLE_ROWS, SAMPLE_ROWS
from dataaggregator.contracts.pipeline import PipelineDefinition

Json = dict[str, Any]
MARKS = {"same": "", "changed": "~", "added": "+", "removed": "-"}
MOST_KEYS = 4
COUNTS = ("read", "written", "filtered", "rejected")


@click.command("plan")
@click.argument("pipeline")
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(exists=True, path_type=Path),
    help="What would be applied: the pipeline, transformations it uses, or both. Default: the saved one alone.",
)  # fmt: skip
@click.option(
    "--sample-rows", default=SAMPLE_ROWS, show_default=True, type=click.IntRange(1, MOST_SAMPLE_ROWS),
    help="How many rows of each source at most.",
)  # fmt: skip
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="May be given often.")
@command
async def plan_pipeline(
    session: Session, pipeline: str, files: tuple[Path, ...], sample_rows: int, parameters: tuple[str, ...]
) -> None:
    """Show what applying the files would do to PIPELINE, on a sample, and write nothing; exit 1 if a run would fail."""
    body: Json = {"sample_rows": sample_rows, "parameter_values": parse_parameters(parameters)}
    async with session.client() as client:
        saved = await _saved(client, pipeline)
        if files:
            body |= _proposed(pipeline, saved, read_documents(files))
        elif saved is None:
            raise click.UsageError(f"There is no pipeline {pipeline}; give the file that defines it with -f.")
        path = "/api/pipelines/plan" if saved is None else f"/api/pipelines/{pipeline}/plan"
        plan = await client.post(path, body)
    if session.json:
        emit_json(plan)
    else:
        print_plan(plan)
    if not plan["ok"]:
        raise click.exceptions.Exit(EXIT_FAILED)


async def _saved(client: Client, pipeline: str) -> Json | None:
    try:
        found: Json = await client.get(f"/api/pipelines/{pipeline}")
    except ApiError as error:
        if error.status != 404:
            raise
        return None
    return found


def _proposed(pipeline: str, saved: Json | None, documents: Sequence[Document]) -> Json:
    """The pipeline as it would be once all of the files was applied: transformations of theirs stand inline."""
    known = saved or {}
    names = {pipeline, known.get("name")}
    found = [one for one in _of_kind("pipeline", documents) if one.get("name") in names]
    written = {name: value for name, value in known.items() if name in PipelineDefinition.model_fields}
    if found:
        written = found[-1]
    elif saved is None:
        raise click.UsageError(f"The files define no pipeline {pipeline}, and there is none.")
    changed = {one.get("name"): one for one in _of_kind("transformation", documents)}
    used = [changed.get(one, one) if isinstance(one, str) else one for one in written.get("transformations", [])]
    return {**written, "transformations": used}


def _of_kind(kind: str, documents: Sequence[Document]) -> list[Json]:
    definitions = (one.definition for one in documents if one.definition.get("kind") == kind)
    return [{name: value for name, value in one.items() if name != "kind"} for one in definitions]


def print_plan(plan: Json) -> None:
    """Stages side by side, then destinations, then what is wrong or to be known."""
    out = console()
    if plan["differences"] is None:
        _print_one(plan["proposed"] or plan["current"])
    else:
        if plan["differences"]["stages"]:
            columns = ("", "stage", "kind", *(f"{name} {when}" for name in COUNTS for when in ("now", "then")))
            out.print(table(columns, map(_stage, plan["differences"]["stages"]), "Stages, on the same rows"))
            out.print()
        out.print(
            table(
                ("", "destination", "rows now", "rows then", "fields", "rows"),
                map(_rows, plan["differences"]["destinations"]),
                "Rows",
            )
        )
    for when in ("current", "proposed"):
        if plan[when] is not None:
            _print_end(when, plan[when])
    out.print()
    out.print("A run of these rows would succeed." if plan["ok"] else "[bold red]A run of these rows would fail.[/]")
    out.print("Nothing was written.")


def _print_one(tried: Json) -> None:
    if tried["replicated"] is not None:
        return
    columns = ("stage", "kind", *COUNTS, "accounting")
    console().print(table(columns, ([one[name] for name in columns] for one in tried["stages"]), "Stages"))


def _stage(line: Json) -> list[object]:
    one = line["proposed"] or line["current"]
    now, then = line["current"] or {}, line["proposed"] or {}
    counts = [side.get(name) for name in COUNTS for side in (now, then)]
    return [MARKS[line["change"]], one["stage"], one["kind"], *counts]


def _rows(line: Json) -> list[object]:
    rows = line["rows"]
    told: object = line["because"]
    if rows is not None:
        by = rows["compared_by"] if len(rows["compared_by"]) <= MOST_KEYS else "all fields they share"
        told = {name: rows[name] for name in ("same", "differ", "vanish", "appear")} | {"by": by}
    named = f"{line['connector']}/{line['stream']}"
    fields = [_difference(one) for one in line["fields"]]
    return [MARKS[line["change"]], named, line["current_rows"], line["proposed_rows"], fields, told]


def _print_end(when: str, tried: Json) -> None:
    """What a run would do at the destinations, and what there is to say."""
    out = console()
    out.print()
    if tried["replicated"] is not None:
        _print_streams(when, tried["replicated"])
    else:
        lines = ([f"{one['connector']}/{one['stream']}", *_load(one)] for one in tried["destinations"])
        out.print(table(("destination", "write", "rows", "road", "would"), lines, when.capitalize()))
    for source in tried["sources"]:
        if source["columns"] is not None:
            out.print(f"  {source['name']}: a run reads {', '.join(source['columns'])}, and no more", markup=False)
    for stage in tried["stages"]:
        if stage["pushed_down"]:
            out.print(f"  {stage['stage']}: the source does it", markup=False)
    for error in _errors(tried):
        out.print(f"  {error}", markup=False)
    for warning in tried["warnings"]:
        out.print(f"  warning: {warning}", markup=False)


def _print_streams(when: str, schema: Json) -> None:
    """Each stream with what a run would do to it, and those that no run would take."""
    out = console()
    columns = ("", "stream", "read", "by", "destination", "write", "road", "would")
    title = f"{when.capitalize()}: {schema['total']} streams, {schema['new']} new"
    out.print(table(columns, map(_stream, schema["streams"]), title))
    for name in ("left_out", "ignored", "vanished"):
        if schema[name]:
            out.print(f"  {name.replace('_', ' ')}: {', '.join(schema[name])}", markup=False)


def _stream(line: Json) -> list[object]:
    destination = line["destination"]
    write, _, road, would = _load(destination)
    named = f"{destination['connector']}/{destination['stream']}"
    if not line["looked_at"] and not destination["error"]:
        would = "?"
    mark, by = "" if line["known"] else MARKS["added"], line["cursor_field"]
    return [mark, line["stream"], line["read"], by, named, write, road, would]


def _load(destination: Json) -> list[object]:
    changes = [_difference(change) for change in destination["changes"]]
    changes += [f"not {_difference(one)}" for one in destination["left"]]
    would = "fail" if destination["error"] else changes or "change nothing"
    return [destination["write"], destination["rows"], destination["road"], would]


def _errors(tried: Json) -> Iterator[str]:
    streams = tried["replicated"]["streams"] if tried["replicated"] else ()
    destinations = [*tried["destinations"], *(one["destination"] for one in streams)]
    for error in (tried["error"], *(one["error"] for one in destinations)):
        if error is not None:
            yield f"{error['code']}: {error['detail']}"
            yield from (f"  {one['field']}: {one['message']}" for one in error["errors"])
    yield from tried["violations"]


def _difference(one: Json) -> str:
    if one["kind"] == "created":
        return "create it"
    if one["kind"] == "changed":
        return f"{one['field']}: {one['before']} -> {one['after']}"
    return f"{'add' if one['kind'] == 'added' else 'remove'} {one['field']} ({one['after'] or one['before']})"


COMMANDS = {"plan": plan_pipeline}
