"""Commands about users."""

import secrets
import sys
from typing import Any

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
@click.option("--service", is_flag=True, help="An account of programs: no password, only API keys.")
@command
async def create_user(session: Session, email: str, role: str, name: str | None, service: bool) -> None:
    """Create a user in the workspace; the password is made up and shown once."""
    password = None if service else secrets.token_urlsafe(18)
    body = {"email": email, "role": role, "service": service, "name": name or ""}
    async with session.client() as client:
        user = await client.post("/api/users", body if password is None else {**body, "password": password})
    if password is None:
        session.tell(user, f"{user['email']} may use the API keys that you make for it, and cannot log in.")
    else:
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


@users.command("reset-password")
@click.argument("user")
@click.pass_context
def reset_password(context: click.Context, user: str) -> None:
    """Let USER (e-mail or id) set a new password: makes a token that is good once, and shown once.

    Without a login or --url it is done on this machine, by its database and SECRET_KEY: so an administrator who
    lost the password comes in again. It goes into the audit as done by the operator.
    """
    session: Session = context.obj
    if session.says_who:
        context.invoke(ask_for_reset, user=user)
        return
    # Databases and compositions are imported by who needs them.
    from dataaggregator.cli.operator import by_operator  # noqa: PLC0415
    from dataaggregator.cli.platform import telling  # noqa: PLC0415

    allowed = telling(lambda: by_operator("auth", "users reset-password", user))
    _tell_allowed(session, allowed.model_dump(mode="json"))


@command
async def ask_for_reset(session: Session, user: str) -> None:
    """By the gateway, in the name of an administrator."""
    async with session.client() as client:
        _tell_allowed(session, await client.post(f"/api/users/{user}/password-reset"))


def _tell_allowed(session: Session, allowed: dict[str, Any]) -> None:
    session.tell(
        allowed,
        f"{allowed['email']} sets a new password by `dataaggregator users set-password` with this token:",
        allowed["token"],
        f"It is good once, until {allowed['expires_at']}. Hand it over as you would a password.",
    )


@users.command("set-password")
@command
async def set_password(session: Session) -> None:
    """Set a new password by a token of `reset-password`; both are asked for, or read from two lines of stdin."""
    token, password = _asked("Token"), _asked("New password", twice=True)
    async with session.anonymous() as client:
        await client.post("/api/auth/password/reset", {"token": token, "new_password": password})
    session.tell({"changed": True}, "The new password is set; everything that was logged in has ended.")


@users.command("change-password")
@command
async def change_password(session: Session) -> None:
    """Change your own password; both are asked for, or read from two lines of stdin."""
    present, password = _asked("Present password"), _asked("New password", twice=True)
    async with session.client() as client:
        await client.post("/api/auth/password", {"current_password": present, "new_password": password})
    session.tell({"changed": True}, "The password is changed; your other logins have ended.")


def _asked(prompt: str, *, twice: bool = False) -> str:
    """A secret from the terminal, unseen, or the next line of what is piped in: never a word of the command."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice))
    return sys.stdin.readline().rstrip("\n")


async def _set_active(session: Session, user: str, *, active: bool) -> None:
    async with session.client() as client:
        changed = await client.patch(f"/api/users/{user}", {"active": active})
    session.tell(changed, f"{changed['email']} is {_status(changed)}")


def _status(user: dict[str, object]) -> str:
    return "active" if user["active"] else "inactive"


COMMANDS = {"users": users}
