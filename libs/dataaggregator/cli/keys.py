"""Commands about API keys, by which programs log in."""

from datetime import UTC, datetime, timedelta

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import Session, command


@click.group("api-keys")
def api_keys() -> None:
    """Make API keys for programs, list them, take them back."""


@api_keys.command("list")
@command
async def list_keys(session: Session) -> None:
    """List the keys of the workspace."""
    async with session.client() as client:
        items = [item async for item in client.pages("/api/api-keys")]
    if session.json:
        emit_json(items)
    else:
        columns = ("name", "hint", "email", "scopes", "expires_at", "last_used_at")
        rows = ((*(str(item[name]) for name in columns[:3]), " ".join(item["scopes"]), *_ends(item)) for item in items)
        console().print(table(columns, rows))


@api_keys.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="What it may do, such as runs:read; repeat it.")
@click.option("--owner", help="A service account (e-mail or id); without it the key is yours.")
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True, help="How long it is good.")
@command
async def create_key(session: Session, name: str, scopes: tuple[str, ...], owner: str | None, days: int) -> None:
    """Make the key NAME; it is shown once."""
    end = datetime.now(UTC) + timedelta(days=days)
    body = {"name": name, "scopes": list(scopes), "owner": owner, "expires_at": end.isoformat()}
    async with session.client() as client:
        made = await client.post("/api/api-keys", body)
    session.tell(made, made["key"], f"Good until {made['expires_at']}; it is shown only now.")


@api_keys.command("revoke")
@click.argument("key")
@command
async def revoke_key(session: Session, key: str) -> None:
    """Take KEY (name or id) back, from this moment on."""
    async with session.client() as client:
        await client.delete(f"/api/api-keys/{key}")
    session.tell({"revoked": key}, f"{key} lets nobody in any more")


def _ends(item: dict[str, object]) -> tuple[str, str]:
    return str(item["expires_at"]), str(item["last_used_at"] or "never")


COMMANDS = {"api-keys": api_keys}
