"""Passwords, HTTP door: change one's own, let somebody set a new one, and set it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr

from dataaggregator.http.answer import UNSTORED, Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.auth.calls import Body, GivenPassword, Password, actor
from services.auth.people.domain import User

from .commands import PasswordCommands
from .domain import Reset


class ChangeBody(Body):
    current_password: GivenPassword
    new_password: Password


class ResetBody(Body):
    token: Annotated[SecretStr, Field(min_length=1, max_length=200, description="dar_…, as an administrator has it.")]
    new_password: Password


class ResetView(BaseModel):
    user_id: UUID
    email: str
    token: str = Field(description="Shown once. Who has it sets the password by POST /api/auth/password/reset.")
    expires_at: datetime


class PasswordsApi:
    """The routes of passwords."""

    def __init__(self, commands: PasswordCommands) -> None:
        self._commands = commands

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                "/api/auth/password",
                self.change_password,
                "Change your password",
                "identity",
                Permission.SELF,
                body=ChangeBody,
                answers={204: None},
                by_login=True,
                description="Every other login of yours ends at once; the one that calls goes on.",
            ),
            Route(
                "POST",
                "/api/auth/password/reset",
                self.reset_password,
                "Set a new password by a token that was given out for it",
                "identity",
                None,
                body=ResetBody,
                answers={204: None},
                problems=(401,),
                description="The token is spent by it, and every login of the user ends at once.",
            ),
            Route(
                "POST",
                "/api/users/{user}/password-reset",
                self.allow_reset,
                "Let a user set a new password",
                "users",
                Permission.IDENTITY_ADMIN,
                answers={200: ResetView},
                problems=(409,),
                description="The token is shown once and replaces the one before it. The present password stays good "
                "until it is used.",
            ),
        ]

    async def change_password(self, call: Call) -> Answer:
        body = call.body_as(ChangeBody)
        current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
        await self._commands.change(actor(call), call.identity.family, current, new)
        return Answer(status=204)

    async def reset_password(self, call: Call) -> Answer:
        body = call.body_as(ResetBody)
        await self._commands.reset(actor(call), body.token.get_secret_value(), body.new_password.get_secret_value())
        return Answer(status=204)

    async def allow_reset(self, call: Call) -> Answer:
        allowed = await self._commands.allow_reset(actor(call), call.workspace, call.path["user"])
        return Answer(reset_view(*allowed), headers=UNSTORED)


def reset_view(user: User, token: str, reset: Reset) -> ResetView:
    return ResetView(user_id=user.id, email=user.email, token=token, expires_at=reset.expires_at)
