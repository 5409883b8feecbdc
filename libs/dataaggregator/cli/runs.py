"""Commands about runs: start and follow one, list them, read logs and events."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dataaggregator.cli.output import console, emit_json, emit_line, print_ledger, table
from dataaggregator.cli.session import EXIT_FAILED, Session, command
from dataaggregator.client import TERMINAL, Client
from dataaggregator.contracts.priorities import PLACES

Json = dict[str, Any]

SHOWN = ("id", "status", "queued_at", "duration_ms", "rows_read", "rows_written", "rows_rejected", "balanced")


@click.command("run")
@click.argument("pipeline")
@click.option("--follow", is_flag=True, help="Show the progress, then the ledger; exit 0 only on success.")
@click.option("--full-refresh", is_flag=True, help="Read everything again, whatever the cursors say.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="May be given often.")
@click.option(
    "--priority", type=click.Choice([*PLACES]), help="Before or behind other runs that wait; else the pipeline's."
)
@command
async def run_pipeline(
    session: Session,
    pipeline: str,
    *,
    follow: bool,
    full_refresh: bool,
    parameters: tuple[str, ...],
    priority: str | None,
) -> None:
    """Start a run of PIPELINE (name or id)."""
    async with session.client() as client:
        given = parse_parameters(parameters)
        run = await client.start_run(pipeline, given, full_refresh=full_refresh, priority=priority)
        if follow:
            await follow_run(client, run["id"], as_json=session.json)
        elif session.json:
            emit_json(run)
        else:
            click.echo(f"{run['id']} {run['status']}")


async def follow_run(client: Client, run_id: str, *, as_json: bool) -> Json:
    """Show a run until its end and its ledger after it; a run that did not succeed ends the command with 1."""
    if as_json:
        async for event in client.run_events(run_id):
            emit_line(event)
    else:
        await _show_progress(client, run_id)
    run = await client.finished_run(run_id)
    if as_json:
        emit_line(run)
    else:
        await _show_outcome(client, run)
    if run["status"] != "succeeded":
        raise click.exceptions.Exit(EXIT_FAILED)
    return run


async def _show_progress(client: Client, run_id: str) -> None:
    """A line for each stage: rows taken in, and whether the stage is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>12,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as progress:
        bars: dict[str, TaskID] = {}
        async for event in client.run_events(run_id):
            for stage in event["data"].get("stages") or []:
                name = stage["stage"]
                if name not in bars:
                    bars[name] = progress.add_task(name, total=None)
                progress.update(bars[name], completed=stage["read"])


async def _show_outcome(client: Client, run: Json) -> None:
    out = console()
    seconds = (run["duration_ms"] or 0) / 1000
    out.print(f"Run {run['id']}: {run['status']} in {seconds:.2f} s")
    if run["error"]:
        out.print(f"  {run['error']['code']}: {run['error']['detail']}", markup=False)
        out.print(f"  see {run['error']['help']}", markup=False)
    for warning in run["warnings"]:
        out.print(f"  warning: {warning}", markup=False)
    if run["started_at"]:
        print_ledger(await client.get(f"/api/runs/{run['id']}/ledger"))


@click.command("runs")
@click.option("--pipeline", help="Only runs of this one.")
@click.option("--status", help="Only runs in this state.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@command
async def list_runs(session: Session, pipeline: str | None, status: str | None, limit: int) -> None:
    """List the newest runs; of those that wait for more than a free slot, what they wait for."""
    async with session.client() as client:
        path = f"/api/pipelines/{pipeline}/runs" if pipeline else "/api/runs"
        page = await client.get(path, status=status, limit=limit)
    if session.json:
        emit_json(page)
        return
    console().print(table(SHOWN, ([run[name] for name in SHOWN] for run in page["items"])))
    for run in page["items"]:
        if run["waiting_for"]:
            click.echo(f"{run['id']} waits: {run['waiting_for']['detail']}")


@click.command("logs")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--level", type=click.Choice(["debug", "info", "warning", "error"]), help="At least this level.")
@command
async def show_logs(session: Session, run: str, follow: bool, level: str | None) -> None:
    """Print the log lines of RUN."""
    path = f"/api/runs/{run}/logs"
    async with session.client() as client:
        show = emit_line if session.json else _print_log_line
        if not follow:
            async for line in client.pages(path, level=level):
                show(line)
            return
        ended = asyncio.ensure_future(client.finished_run(run))
        async for event in client.events(path, level=level):
            if event.kind == "end":
                break
            show(event.data)
        await ended


def _print_log_line(line: Json) -> None:
    fields = " ".join(f"{name}={value}" for name, value in (line.get("fields") or {}).items())
    click.echo(f"{line['at']} {line['level']:<7} {line['message']} {fields}".rstrip())


@click.command("events")
@click.option("-f", "--follow", is_flag=True, required=True, help="Stay and print what happens.")
@click.option("--type", "kind", help="Only events of this type, such as run.succeeded.v1.")
@click.option("--subject", help="Only events about this resource.")
@command
async def show_events(session: Session, follow: bool, kind: str | None, subject: str | None) -> None:  # noqa: ARG001
    """Print the events of the workspace as they happen."""
    async with session.client() as client:
        async for event in client.events("/api/events", type=kind, subject=subject):
            if event.kind == "reset":
                click.echo(f"some events are gone: {event.data['reason']}", err=True)
            elif session.json:
                emit_line(event.data)
            else:
                click.echo(f"{event.data['time']} {event.data['type']:<24} {event.data['subject']}")


@click.command("verify")
@click.argument("run")
@command
async def verify_run(session: Session, run: str) -> None:
    """Read back at its destinations what RUN has loaded; exit 0 only if each holds what the receipts say."""
    async with session.client() as client:
        told = await client.post(f"/api/runs/{run}/verify")
    if session.json:
        emit_json(told)
    else:
        lines = [(one["destination"], one["status"], one["detail"]) for one in told["destinations"]]
        console().print(table(("destination", "status", "detail"), lines))
    if not told["verified"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@click.command("cancel")
@click.argument("run")
@command
async def cancel_run(session: Session, run: str) -> None:
    """Cancel RUN; it ends within 10 seconds."""
    async with session.client() as client:
        answer = await client.post(f"/api/runs/{run}/cancel")
        if answer["status"] not in TERMINAL:
            answer = await client.finished_run(run)
    emit = emit_json if session.json else _print_status
    emit(answer)


def _print_status(run: Json) -> None:
    click.echo(f"{run['id']} {run['status']}")


def parse_parameters(parameters: tuple[str, ...]) -> Json:
    """NAME=VALUE words; a value that is JSON keeps its type, any other is a string."""
    parsed: Json = {}
    for word in parameters:
        name, separator, value = word.partition("=")
        if not separator:
            raise click.UsageError(f"A parameter is NAME=VALUE, and {word!r} has no '='.")
        parsed[name] = _value(value, json.loads)
    return parsed


def _value(text: str, read: Callable[[str], object]) -> object:
    try:
        return read(text)
    except ValueError:
        return text


COMMANDS = {
    "run": run_pipeline,
    "runs": list_runs,
    "logs": show_logs,
    "events": show_events,
    "cancel": cancel_run,
    "verify": verify_run,
}
