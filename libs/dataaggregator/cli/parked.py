"""Commands about events that a service could not apply and set aside for a person."""

import json
from typing import Any

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import Session, command

Json = dict[str, Any]
SERVICE = click.option("--service", help="Only what this service set aside.")


@click.group("parked")
def parked() -> None:
    """List the events that were set aside, read them, and let them try again."""


@parked.command("list")
@SERVICE
@click.option("--type", "kind", help="Only events of this type, such as run.queued.v1 or run.*")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@command
async def list_parked(session: Session, service: str | None, kind: str | None, limit: int) -> None:
    """List the newest events that were set aside."""
    async with session.client() as client:
        page = await client.get("/api/parked", service=service, type=kind, limit=limit)
    if session.json:
        emit_json(page)
        return
    columns = ("id", "service", "type", "subject", "tries", "code", "parked_at")
    console().print(table(columns, ([item[name] for name in columns] for item in page["items"])))
    if page["next_cursor"]:
        click.echo(
            f"There are more than {limit}: narrow the list, or read on with --json and GET /api/parked.", err=True
        )
    _tell_unanswered(page)


@parked.command("show")
@click.argument("event")
@SERVICE
@command
async def show_parked(session: Session, event: str, service: str | None) -> None:
    """Print EVENT (an id), why each service set it aside, and what to do about it."""
    async with session.client() as client:
        found = await client.get(f"/api/parked/{event}", service=service)
    if session.json:
        emit_json(found)
        return
    click.echo(f"{found['type']} about {found['subject']}, said by {found['source']}, number {found['sequence']}")
    for one in found["parked"]:
        click.echo(f"{one['service']}: {one['code']} at try {one['tries']}, set aside at {one['parked_at']}")
        click.echo(f"  {one['reason']}")
        click.echo(f"  see {one['help']}")
    click.echo(json.dumps(found["event"]["data"], indent=2, ensure_ascii=False))
    _tell_unanswered(found)


@parked.command("replay")
@click.argument("event")
@SERVICE
@command
async def replay_parked(session: Session, event: str, service: str | None) -> None:
    """Let EVENT (an id) try again, in every service that set it aside or in the one named."""
    query = f"?service={service}" if service else ""
    async with session.client() as client:
        told = await client.post(f"/api/parked/{event}/replay{query}")
    if session.json:
        emit_json(told)
        return
    click.echo(f"{told['id']} tries again in {', '.join(told['services'])}")
    _tell_unanswered(told)


def _tell_unanswered(told: Json) -> None:
    if told["unanswered"]:
        click.echo(f"no answer from {', '.join(told['unanswered'])}: what they set aside is missing here", err=True)


COMMANDS = {"parked": parked}
