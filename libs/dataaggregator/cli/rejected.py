"""Commands about rejected rows: look at them, count them, take them home as a file, put them through once more."""

import json
from pathlib import Path
from typing import Any

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.runs import follow_run
from dataaggregator.cli.session import Session, command
from dataaggregator.client import Client

Json = dict[str, Any]
FORMATS = ("ndjson", "csv", "parquet")


@click.command("rejected")
@click.argument("run")
@click.option("--stage", help="Only rows this stage rejected.")
@click.option("--rule", help="Only rows this rule rejected.")
@click.option("--summary", is_flag=True, help="Only how many were rejected where and why.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Write them to this file; its ending says how: {', '.join(FORMATS)}.",
)
@command
async def show_rejected(
    session: Session, /, run: str, summary: bool, output: Path | None, **chosen: str | None
) -> None:
    """Print the rows of RUN that went to the quarantine, each with stage, rule and reason."""
    path = f"/api/runs/{run}/rejected"
    async with session.client() as client:
        if summary:
            _print_summary(session, await client.get(f"{path}/summary"))
        elif output is not None:
            await _save(client, f"{path}/download", output, **chosen)
        else:
            _print_rows(session, [row async for row in client.pages(path, **chosen)])


@click.command("replay")
@click.argument("run")
@click.option("--stage", help="Only rows this stage rejected.")
@click.option("--rule", help="Only rows this rule rejected.")
@click.option("--version", type=click.IntRange(1), help="Of the pipeline: the one the run had. Default: the newest.")
@click.option("--overwrite", is_flag=True, help="Also where later runs may have newer values.")
@click.option("--follow", is_flag=True, help="Show the progress, then the ledger; exit 0 only on success.")
@command
async def replay_rejected(session: Session, /, run: str, follow: bool, **wish: str | int | bool | None) -> None:
    """Put the rejected rows of RUN through its pipeline once more, as a new run."""
    body = {name: value for name, value in wish.items() if value is not None}
    async with session.client() as client:
        started = await client.post(f"/api/runs/{run}/rejected/replay", body)
        if follow:
            await follow_run(client, started["id"], as_json=session.json)
        elif session.json:
            emit_json(started)
        else:
            click.echo(f"{started['id']} {started['status']}")


async def _save(client: Client, path: str, output: Path, **chosen: str | None) -> None:
    """Beside and then renamed: a file of that name is whole."""
    wanted = output.suffix.removeprefix(".")
    if wanted not in FORMATS:
        raise click.UsageError(f"The ending of {output.name} should be one of {', '.join(FORMATS)}.")
    beside = output.with_name(f"{output.name}.part")
    try:
        with beside.open("wb") as file:
            await client.download(path, file, format=wanted, **chosen)
        beside.rename(output)
    finally:
        beside.unlink(missing_ok=True)


def _print_rows(session: Session, rows: list[Json]) -> None:
    if session.json:
        emit_json(rows)
        return
    lines = [(row["stage"], row["rule"], row["reason"], json.dumps(row["row"], ensure_ascii=False)) for row in rows]
    console().print(table(("stage", "rule", "reason", "row"), lines))


def _print_summary(session: Session, told: Json) -> None:
    if session.json:
        emit_json(told)
        return
    lines = [
        (item["stage"], item["kind"], item["rule"], reason["rows"], reason["reason"])
        for item in told["items"]
        for reason in item["reasons"]
    ]
    console().print(table(("stage", "kind", "rule", "rows", "reason"), lines, f"{told['rows']} rejected rows"))


COMMANDS = {"rejected": show_rejected, "replay": replay_rejected}
