"""Commands about the audit: who did what, all of it as a file, and whether it is still as it was written."""

import sys
from pathlib import Path
from typing import Any

import click
import orjson

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import EXIT_FAILED, Session, command

Json = dict[str, Any]
A_FILE = click.Path(dir_okay=False, path_type=Path)
COLUMNS = ("at", "actor", "action", "resource_type", "resource_id", "address", "request_id")


@click.group("audit")
def audit() -> None:
    """Read who did what, export it, and verify that nobody changed it since."""


@audit.command("list")
@click.option("--actor", help="A user's id, or an e-mail as it was then.")
@click.option("--api-key", help="The id of the API key that did it, also after it was removed.")
@click.option("--action", help="Such as pipeline.paused or pipeline.*")
@click.option("--resource-type", help="Such as pipeline, connector or user.")
@click.option("--resource-id", help="The id of what it was done to.")
@click.option("--service", help="Only what this service did.")
@click.option("--since", help="Not before this time, such as 2026-01-31T00:00:00Z")
@click.option("--until", help="Before this time.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@command
async def list_audit(session: Session, /, limit: int, **wanted: str | None) -> None:
    """List the newest entries."""
    async with session.client() as client:
        page = await client.get("/api/audit", limit=limit, **wanted)
    if session.json:
        emit_json(page)
        return
    console().print(table(COLUMNS, ([item[name] for name in COLUMNS] for item in page["items"])))
    if page["next_cursor"]:
        click.echo(f"There are more than {limit}: narrow the list, or take all of it by audit export.", err=True)


@audit.command("export")
@click.option("-o", "--output", type=A_FILE, help="A file. Default: print it.")
@command
async def export_audit(session: Session, output: Path | None) -> None:
    """Write the whole audit as NDJSON, each chain from its beginning."""
    async with session.client() as client:
        if output is None:
            await client.download("/api/audit/export", sys.stdout.buffer)
            return
        draft = output.with_name(f"{output.name}.part")
        with draft.open("wb") as file:
            await client.download("/api/audit/export", file)
        draft.replace(output)


@audit.command("verify")
@click.option(
    "--heads",
    type=A_FILE,
    help="A file on another machine than the database's: what it tells of the last time is held against the audit, "
    "and is written anew when all is well.",
)
@command
async def verify_audit(session: Session, heads: Path | None) -> None:
    """Go through every chain; exit 1 and name the first entry that does not hold."""
    kept = orjson.loads(heads.read_bytes()) if heads is not None and heads.exists() else []
    async with session.client() as client:
        found = await client.post("/api/audit/verify", {"heads": kept})
    if found["ok"] and heads is not None:
        ends = [one["end"] for one in found["chains"] if one["end"] is not None]
        places = [{name: end[name] for name in ("workspace_id", "position", "digest")} for end in ends]
        draft = heads.with_name(f"{heads.name}.part")
        draft.write_bytes(orjson.dumps(places, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        draft.replace(heads)
    session.tell(found, *map(_told, found["chains"]))
    if not found["ok"]:
        raise click.exceptions.Exit(EXIT_FAILED)


def _told(chain: Json) -> str:
    workspace, broken, head = chain["workspace_id"], chain["broken"], chain["head"]
    if broken is not None:
        return f"{workspace}: broken at entry {broken['position']}: {broken['reason']}"
    signed = "none of them signed yet" if head is None else f"signed up to {head['position']} at {head['signed_at']}"
    behind = "" if chain["dropped"] is None else f" behind {chain['dropped']['position']} that were dropped"
    return f"{workspace}: {chain['entries']} entries{behind}, whole, {signed}"


COMMANDS = {"audit": audit}
