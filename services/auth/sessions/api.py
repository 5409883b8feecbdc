"""Sessions, HTTP door: login, refresh, logout, who am I, and the public keys of tokens."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr

from dataaggregator.errors import Denied
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission, Role
from dataaggregator.revocations import RevokedKind
from services.auth.calls import Body, GivenPassword, actor
from services.auth.keys.signing import SigningKeys

from .commands import Pair, Sessions

# Looked up, not checked for form: a wrong address is answered like a wrong password.
GivenEmail = Annotated[str, Field(min_length=1, max_length=254)]
GivenToken = Annotated[SecretStr, Field(min_length=1, max_length=200)]


class LoginBody(Body):
    email: GivenEmail
    password: GivenPassword


class RefreshBody(Body):
    refresh_token: GivenToken


class PairView(BaseModel):
    access_token: str = Field(description="Sent as Authorization: Bearer.")
    refresh_token: str = Field(description="Good for one refresh; keep it as secret as a password.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the kind of token
    expires_in: int = Field(description="Life of the access token, seconds.")


class MembershipView(BaseModel):
    workspace_id: UUID
    name: str
    role: Role


class MeView(BaseModel):
    id: UUID
    email: str
    default_workspace_id: UUID | None
    memberships: list[MembershipView]
    permissions: list[Permission] = Field(description="What this token may do in the workspace of the call.")


class JwkView(BaseModel):
    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class JwksView(BaseModel):
    keys: list[JwkView]


class RevocationView(BaseModel):
    kind: RevokedKind
    id: str
    revoked_at: datetime
    until: datetime


class RevokedView(BaseModel):
    """What `dataaggregator.revocations.wire` reads."""

    revoked: list[RevocationView]


class SessionsApi:
    """The routes of sessions."""

    def __init__(self, sessions: Sessions, keys: SigningKeys) -> None:
        self._sessions = sessions
        self._keys = keys

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                "/api/auth/login",
                self.login,
                "Log in with e-mail and password",
                "identity",
                None,
                body=LoginBody,
                answers={200: PairView},
                problems=(401, 403),
            ),
            Route(
                "POST",
                "/api/auth/refresh",
                self.refresh,
                "Exchange a refresh token for a new pair",
                "identity",
                None,
                body=RefreshBody,
                answers={200: PairView},
                problems=(401,),
                description="The token is spent by it; for 30 seconds it gives the same successor once more.",
            ),
            Route(
                "POST",
                "/api/auth/logout",
                self.logout,
                "End a login with all its tokens",
                "identity",
                None,
                body=RefreshBody,
                answers={204: None},
            ),
            Route(
                "GET",
                "/api/auth/me",
                self.me,
                "Who am I, and what may I do",
                "identity",
                Permission.SELF,
                answers={200: MeView},
            ),
            *self._told(),
        ]

    def _told(self) -> list[Route]:
        """What others need to judge tokens by themselves."""
        return [
            Route(
                "GET",
                "/api/auth/jwks.json",
                self.jwks,
                "Public keys of access tokens",
                "identity",
                None,
                answers={200: JwksView},
            ),
            Route(
                "GET",
                "/internal/revocations",
                self.revoked,
                "Everything that is revoked now",
                "internal",
                None,
                answers={200: RevokedView},
                internal=True,
            ),
        ]

    async def login(self, call: Call) -> Answer:
        body = call.body_as(LoginBody)
        return _pair(await self._sessions.login(body.email, body.password.get_secret_value(), actor(call)))

    async def refresh(self, call: Call) -> Answer:
        return _pair(await self._sessions.refresh(call.body_as(RefreshBody).refresh_token.get_secret_value()))

    async def logout(self, call: Call) -> Answer:
        await self._sessions.logout(call.body_as(RefreshBody).refresh_token.get_secret_value(), actor(call))
        return Answer(status=204)

    async def me(self, call: Call) -> Answer:
        identity = call.identity
        if identity.user_id is None:
            raise Denied("permission-denied", "Only a user can ask who they are.")
        return Answer(
            MeView(
                id=identity.user_id,
                email=identity.email or "",
                default_workspace_id=identity.default_workspace,
                memberships=[
                    MembershipView(workspace_id=one.workspace_id, name=one.name, role=one.role)
                    for one in identity.memberships
                ],
                permissions=sorted(identity.permissions(call.workspace_id)),
            )
        )

    async def revoked(self, _: Call) -> Answer:
        """For our services, when they may have missed what was told."""
        known = [RevocationView(**asdict(one)) for one in await self._sessions.revoked()]
        return Answer(RevokedView(revoked=known))

    async def jwks(self, _: Call) -> Answer:
        return Answer(self._keys.jwks(), headers={"Cache-Control": "public, max-age=60"})


def _pair(pair: Pair) -> Answer:
    view = PairView(access_token=pair.access_token, refresh_token=pair.refresh_token, expires_in=pair.expires_in)
    return Answer(view, headers={"Cache-Control": "no-store"})
