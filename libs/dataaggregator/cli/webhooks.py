"""Commands about webhooks: those that tell others of events, and the addresses at which others start pipelines."""

from typing import Any, TextIO

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import Session, command

Json = dict[str, Any]
OVERLAP = click.option(
    "--overlap",
    default=86_400,
    show_default=True,
    type=click.IntRange(0, 7 * 86_400),
    help="Seconds for which the one before is still good.",
)
# Never as a word of the command: other users of the machine can read those.
SECRET = click.option("--secret", type=click.File(), help="A file with the other side's own whsec_…, - for input.")


@click.group("webhooks")
def webhooks() -> None:
    """Send events to addresses of others, and look after what was delivered."""


@webhooks.command("list")
@command
async def list_webhooks(session: Session) -> None:
    """List the webhooks."""
    async with session.client() as client:
        found = [one async for one in client.pages("/api/webhooks")]
    if session.json:
        emit_json(found)
        return
    columns = ("name", "status", "url", "types", "failing_since", "disabled_reason")
    console().print(table(columns, ([one[name] for name in columns] for one in found)))


@webhooks.command("create")
@click.argument("name")
@click.argument("url")
@click.option("--type", "types", multiple=True, required=True, help="Such as run.failed.v1 or pipeline.*; often.")
@command
async def create_webhook(session: Session, name: str, url: str, types: tuple[str, ...]) -> None:
    """Send events to URL from now on; prints the secret that signs them, this once."""
    async with session.client() as client:
        made = await client.post("/api/webhooks", {"name": name, "url": url, "types": list(types)})
    session.tell(made, f"{made['name']} is {made['status']}.", f"secret: {made['secret']}")


@webhooks.command("enable")
@click.argument("webhook")
@command
async def enable_webhook(session: Session, webhook: str) -> None:
    """Deliver to WEBHOOK (name or id) again, also to one that was given up; what waits is sent."""
    await _switch(session, webhook, enabled=True)


@webhooks.command("disable")
@click.argument("webhook")
@command
async def disable_webhook(session: Session, webhook: str) -> None:
    """Deliver nothing to WEBHOOK (name or id) of what happens from now on."""
    await _switch(session, webhook, enabled=False)


async def _switch(session: Session, webhook: str, *, enabled: bool) -> None:
    async with session.client() as client:
        saved = await client.patch(f"/api/webhooks/{webhook}", {"enabled": enabled})
    session.tell(saved, f"{saved['name']} is {saved['status']}.")


@webhooks.command("delete")
@click.argument("webhook")
@command
async def delete_webhook(session: Session, webhook: str) -> None:
    """Delete WEBHOOK (name or id), and what waits for it."""
    async with session.client() as client:
        await client.delete(f"/api/webhooks/{webhook}")
    session.tell({"deleted": webhook}, f"{webhook} is deleted.")


@webhooks.command("rotate")
@click.argument("webhook")
@OVERLAP
@SECRET
@command
async def rotate_secret(session: Session, webhook: str, overlap: int, secret: TextIO | None) -> None:
    """Sign calls to WEBHOOK (name or id) with another secret; for the overlap both sign."""
    async with session.client() as client:
        made = await client.post(f"/api/webhooks/{webhook}/rotate-secret", _wish(overlap, secret))
    if session.json:
        emit_json(made)
        return
    click.echo(f"secret: {made['secret']}")
    _tell_overlap(made)


@webhooks.command("deliveries")
@click.argument("webhook")
@click.option("--status", type=click.Choice(["pending", "delivered", "failed"]))
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@command
async def list_deliveries(session: Session, webhook: str, status: str | None, limit: int) -> None:
    """List the newest deliveries to WEBHOOK (name or id), and what came of the last try of each."""
    async with session.client() as client:
        page = await client.get(f"/api/webhooks/{webhook}/deliveries", status=status, limit=limit)
    if session.json:
        emit_json(page)
        return
    columns = ("id", "type", "subject", "status", "attempts", "response_status", "attempted_at", "next_at", "error")
    console().print(table(columns, ([one[name] for name in columns] for one in page["items"])))


@webhooks.command("redeliver")
@click.argument("webhook")
@click.argument("delivery")
@command
async def redeliver(session: Session, webhook: str, delivery: str) -> None:
    """Send DELIVERY (an id) to WEBHOOK (name or id) again, also one that was taken."""
    async with session.client() as client:
        again = await client.post(f"/api/webhooks/{webhook}/deliveries/{delivery}/redeliver")
    session.tell(again, f"{again['type']} about {again['subject']} is sent again.")


@click.group("hooks")
def hooks() -> None:
    """Look after the addresses at which others start pipelines."""


@hooks.command("show")
@click.argument("pipeline")
@command
async def show_hook(session: Session, pipeline: str) -> None:
    """Show which tokens of the hook of PIPELINE (name or id) are good, and when each was used last."""
    async with session.client() as client:
        found = await client.get(f"/api/pipelines/{pipeline}/hook")
    if session.json:
        emit_json(found)
        return
    click.echo("Calls have to be signed." if found["signed"] else "Calls need no signature.")
    columns = ("made_at", "ends_at", "last_used_at")
    console().print(table(columns, ([one[name] for name in columns] for one in found["tokens"])))


@hooks.command("rotate")
@click.argument("pipeline")
@OVERLAP
@SECRET
@command
async def rotate_hook(session: Session, pipeline: str, overlap: int, secret: TextIO | None) -> None:
    """Make the address of the hook of PIPELINE (name or id), or another one in its place; it is shown this once."""
    async with session.client() as client:
        made = await client.post(f"/api/pipelines/{pipeline}/hook/rotate", _wish(overlap, secret))
        made |= {"url": client.url + made["path"]}
    if session.json:
        emit_json(made)
        return
    click.echo(f"address: {made['url']}")
    click.echo(f"secret: {made['secret']}")
    _tell_overlap(made)


@hooks.command("revoke")
@click.argument("pipeline")
@command
async def revoke_hook(session: Session, pipeline: str) -> None:
    """Take all tokens of the hook of PIPELINE (name or id) back."""
    async with session.client() as client:
        await client.delete(f"/api/pipelines/{pipeline}/hook")
    session.tell({"revoked": pipeline}, f"No address starts {pipeline} any more.")


def _wish(overlap: int, secret: TextIO | None) -> Json:
    given = {} if secret is None else {"secret": secret.read().strip()}
    return {"overlap_seconds": overlap, **given}


def _tell_overlap(made: Json) -> None:
    if made["previous_ends_at"] is not None:
        click.echo(f"The one before is good until {made['previous_ends_at']}.")


COMMANDS = {"hooks": hooks, "webhooks": webhooks}
