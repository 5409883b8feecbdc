"""Commands about users."""

import secrets

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import Session, command


@click.group("users")
def users() -> None:
    """Create users, let them in and keep them out."""


@users.command("list")
@command
async def list_users(session: Session) -> None:
    """List the users."""
    async with session.client() as client:
        items = [item async for item in client.pages("/api/users")]
    if session.json:
        emit_json(items)
    else:
        columns = ("email", "status", "id")
        console().print(table(columns, ((item["email"], _status(item), item["id"]) for item in items)))


@users.command("create")
@click.argument("email")
@click.option(
    "--role", default="viewer", show_default=True, type=click.Choice(["viewer", "operator", "editor", "admin"])
)
@click.option("--name", help="The person's name.")
@command
async def create_user(session: Session, email: str, role: str, name: str | None) -> None:
    """Create a user in the workspace; the password is made up and shown once."""
    password = secrets.token_urlsafe(18)
    body = {"email": email, "password": password, "role": role, **({"name": name} if name else {})}
    async with session.client() as client:
        user = await client.post("/api/users", body)
    sentence = f"{user['email']} may log in with the password {password} (it is shown only now)."
    session.tell({**user, "password": password}, sentence)


@users.command("activate")
@click.argument("user")
@command
async def activate_user(session: Session, user: str) -> None:
    """Let USER (e-mail or id) in again."""
    await _set_active(session, user, active=True)


@users.command("deactivate")
@click.argument("user")
@command
async def deactivate_user(session: Session, user: str) -> None:
    """Keep USER (e-mail or id) out, from this moment on."""
    await _set_active(session, user, active=False)


async def _set_active(session: Session, user: str, *, active: bool) -> None:
    async with session.client() as client:
        changed = await client.patch(f"/api/users/{user}", {"active": active})
    session.tell(changed, f"{changed['email']} is {_status(changed)}")


def _status(user: dict[str, object]) -> str:
    return "active" if user["active"] else "inactive"


COMMANDS = {"users": users}
