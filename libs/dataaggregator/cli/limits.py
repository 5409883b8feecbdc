"""Commands about limits: who has used up which rate, and how many runs of a workspace may be at work at once."""

from collections.abc import Callable
from typing import Any

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import Session, command

COLUMNS = ("class", "key", "trusted", "limit", "remaining", "reset_seconds")

AnyCommand = Callable[..., Any]


def whose(function: AnyCommand) -> AnyCommand:
    """The options that say which buckets."""
    for option in (
        click.option("--workspace-id", "workspace", help="Run starts of this workspace (an id) only."),
        click.option("--address", help="Of this address only."),
        click.option("--user", help="Of this user (an id) only."),
        click.option("--class", "limit_class", type=click.Choice(("api", "login", "run")), help="Of this class only."),
    ):
        function = option(function)
    return function


@click.group("rate-limits")
def rate_limits() -> None:
    """Show which rate limits somebody has used, and clear them."""


@rate_limits.command("show")
@whose
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@command
async def show(session: Session, /, limit: int, limit_class: str | None, **of: str | None) -> None:
    """List the limits that are not full again yet."""
    async with session.client() as client:
        page = await client.get("/api/rate-limits", limit=limit, **{"class": limit_class}, **of)
    if session.json:
        emit_json(page)
        return
    console().print(table(COLUMNS, ([item[name] for name in COLUMNS] for item in page["items"])))
    if page["next_cursor"]:
        click.echo(f"There are more than {limit}: narrow the list, or read on with --json.", err=True)


@rate_limits.command("clear")
@whose
@command
async def clear(session: Session, /, limit_class: str | None, **of: str | None) -> None:
    """Fill the limits of a class, or of somebody, so that they may call again at once."""
    async with session.client() as client:
        told = await client.delete("/api/rate-limits", **{"class": limit_class}, **of)
    session.tell(told, f"{told['cleared']} cleared")


@click.group("run-limits")
def run_limits() -> None:
    """Show and set how many runs of the workspace may be at work at once."""


@run_limits.command("show")
@command
async def show_runs(session: Session, /) -> None:
    """What the workspace's admins say, what the installation says, and the lesser of the two."""
    async with session.client() as client:
        _tell_runs(session, await client.get("/api/run-limits"))


@run_limits.command("set")
@click.argument("runs", type=click.IntRange(min=1))
@command
async def set_runs(session: Session, /, runs: int) -> None:
    """Let so many RUNS be at work at once; those at work go on, further ones wait."""
    async with session.client() as client:
        _tell_runs(session, await client.put("/api/run-limits", {"runs": runs}))


@run_limits.command("clear")
@command
async def clear_runs(session: Session, /) -> None:
    """Let the workspace have as many as the installation allows."""
    async with session.client() as client:
        _tell_runs(session, await client.put("/api/run-limits", {"runs": None}))


def _tell_runs(session: Session, told: dict[str, int | None]) -> None:
    said = {name: "no limit" if most is None else str(most) for name, most in told.items()}
    session.tell(told, f"workspace: {said['runs']}, installation: {said['installation']}, counts: {said['effective']}")


COMMANDS = {"rate-limits": rate_limits, "run-limits": run_limits}
