"""Commands about backfills: load a period of a pipeline again and follow it, list, cancel, try again."""

import asyncio
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.runs import parse_parameters
from dataaggregator.cli.session import EXIT_FAILED, Session, command
from dataaggregator.client import Client

Json = dict[str, Any]
LOOK_SECONDS = 1.0
STATES = ("slots", "queued", "running", "succeeded", "failed", "cancelled")


@click.command("backfill")
@click.argument("pipeline")
@click.option("--from", "from_", required=True, metavar="TIME", help="Such as 2026-01-01T00:00:00Z.")
@click.option("--to", required=True, metavar="TIME", help="Rows of this very moment are not loaded.")
@click.option("--interval", required=True, metavar="DURATION", help="How long a slot is, such as 1d (24 hours).")
@click.option("--concurrency", default=1, show_default=True, type=click.IntRange(1, 100), help="Slots at once.")
@click.option("--overwrite", is_flag=True, help="Rows of the period may take the place of newer ones.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="May be given often.")
@click.option("--follow", is_flag=True, help="Show how far it is; exit 0 only when every slot is loaded.")
@command
async def start_backfill(
    session: Session, /, pipeline: str, parameters: tuple[str, ...], follow: bool, **wish: str | int | bool
) -> None:
    """Load a period of PIPELINE (name or id) again, beside its own runs."""
    body: Json = {name.rstrip("_"): value for name, value in wish.items()} | {
        "parameters": parse_parameters(parameters)
    }
    async with session.client() as client:
        backfill = await client.post(f"/api/pipelines/{pipeline}/backfills", body)
        await _told(client, session, backfill, follow=follow)


@click.group("backfills")
def backfills() -> None:
    """Look at backfills, cancel them, load what is missing."""


@backfills.command("list")
@click.argument("pipeline")
@click.option("--status", type=click.Choice(["running", "succeeded", "failed", "cancelled"]))
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@command
async def list_backfills(session: Session, pipeline: str, status: str | None, limit: int) -> None:
    """List the newest backfills of PIPELINE."""
    async with session.client() as client:
        page = await client.get(f"/api/pipelines/{pipeline}/backfills", status=status, limit=limit)
    if session.json:
        emit_json(page)
        return
    columns = ("id", "status", "from", "to", "interval")
    lines = [[*(one[name] for name in columns), *(one["progress"][name] for name in STATES)] for one in page["items"]]
    console().print(table((*columns, *STATES), lines))


@backfills.command("show")
@click.argument("backfill")
@click.option("--status", type=click.Choice(STATES[1:]), help="Only slots in this state.")
@command
async def show_backfill(session: Session, backfill: str, status: str | None) -> None:
    """Show BACKFILL, and its slots with their runs."""
    async with session.client() as client:
        found = await client.get(f"/api/backfills/{backfill}")
        slots = [slot async for slot in client.pages(f"/api/backfills/{backfill}/slots", status=status)]
    if session.json:
        emit_json(found | {"items": slots})
        return
    click.echo(_line(found))
    columns = ("interval_start", "interval_end", "status", "run_id")
    console().print(table(columns, ([slot[name] for name in columns] for slot in slots)))


@backfills.command("cancel")
@click.argument("backfill")
@command
async def cancel_backfill(session: Session, backfill: str) -> None:
    """Begin no more slots of BACKFILL and cancel those at work; what is loaded stays."""
    async with session.client() as client:
        await _told(client, session, await client.post(f"/api/backfills/{backfill}/cancel"), follow=False)


@backfills.command("retry")
@click.argument("backfill")
@click.option("--follow", is_flag=True, help="Show how far it is; exit 0 only when every slot is loaded.")
@command
async def retry_backfill(session: Session, backfill: str, follow: bool) -> None:
    """Load the slots of BACKFILL that failed or were cancelled."""
    async with session.client() as client:
        await _told(client, session, await client.post(f"/api/backfills/{backfill}/retry"), follow=follow)


async def _told(client: Client, session: Session, backfill: Json, *, follow: bool) -> None:
    if follow:
        backfill = await _ended(client, backfill)
    session.tell(backfill, _line(backfill))
    if follow and backfill["status"] != "succeeded":
        raise click.exceptions.Exit(EXIT_FAILED)


async def _ended(client: Client, backfill: Json) -> Json:
    """Watch until no slot is open."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console(), transient=True) as progress:
        bar = progress.add_task("slots", total=backfill["progress"]["slots"])
        while backfill["status"] == "running":
            await asyncio.sleep(LOOK_SECONDS)
            backfill = await client.get(f"/api/backfills/{backfill['id']}")
            told = backfill["progress"]
            progress.update(bar, completed=told["slots"] - told["queued"] - told["running"])
    return backfill


def _line(backfill: Json) -> str:
    counts = ", ".join(f"{backfill['progress'][state]} {state}" for state in STATES if backfill["progress"][state])
    why = f" ({backfill['error']['detail']})" if backfill["error"] else ""
    return f"{backfill['id']} {backfill['status']}: {counts}{why}"


COMMANDS = {"backfill": start_backfill, "backfills": backfills}
