"""Sessions, HTTP door: login, refresh, logout, who am I, and the public keys of tokens."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, RootModel, SecretStr

from dataaggregator.errors import Denied, FieldError, Invalid, NotFound, Unauthenticated
from dataaggregator.http import cookies
from dataaggregator.http.answer import UNSTORED, Answer
from dataaggregator.http.call import Call
from dataaggregator.http.identity import Identity
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


class LoginQuery(BaseModel):
    session: Literal["cookie"] | None = Field(None, description="A cookie for a browser, instead of tokens.")


class RefreshBody(Body):
    refresh_token: GivenToken | None = Field(None, description="Not needed where a cookie stands for it.")


class SessionBody(Body):
    session: GivenToken


class PairView(BaseModel):
    access_token: str = Field(description="Sent as Authorization: Bearer.")
    refresh_token: str = Field(description="Good for one refresh; keep it as secret as a password.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the kind of token
    expires_in: int = Field(description="Life of the access token, seconds.")


class BrowserView(BaseModel):
    """The session itself is in the cookie that comes with it, which no script can read."""

    csrf_token: str = Field(description="Sent as X-CSRF-Token with everything but GET and HEAD.")
    expires_in: int = Field(description="How long the session lives without a call, seconds.")


class BegunView(RootModel[PairView | BrowserView]):
    """What was begun, or goes on: tokens, or a browser's session."""


class ResumedView(BaseModel):
    access_token: str
    expires_at: datetime


class MembershipView(BaseModel):
    workspace_id: UUID
    name: str
    role: Role


class MeView(BaseModel):
    id: UUID
    email: str
    default_workspace_id: UUID | None
    memberships: list[MembershipView]
    csrf_token: str | None = Field(description="Of a login in a browser: what X-CSRF-Token has to be.")
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


@dataclass(frozen=True)
class Browsers:
    """What a browser is given: a cookie that lives as long as the session, and a token against forged calls."""

    csrf_key: bytes

    def begun(self, call: Call, pair: Pair) -> Answer:
        view = BrowserView(csrf_token=self.csrf_token(str(pair.family)), expires_in=pair.goes_on)
        return Answer(BegunView(view), headers=set_cookie(call, pair.refresh_token, pair.goes_on))

    def csrf_token(self, family: str) -> str:
        return cookies.csrf_token(self.csrf_key, family)


class SessionsApi:
    """The routes of sessions."""

    def __init__(self, sessions: Sessions, keys: SigningKeys, browsers: Browsers) -> None:
        self._sessions = sessions
        self._keys = keys
        self._browsers = browsers

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
                query=LoginQuery,
                answers={200: BegunView},
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
                body_optional=True,
                answers={200: BegunView},
                problems=(401, 403),
                description="The token is spent by it; for 30 seconds it gives the same successor once more. A "
                "browser's session lives on, and its cookie is given anew.",
            ),
            Route(
                "POST",
                "/api/auth/logout",
                self.logout,
                "End a login with all its tokens",
                "identity",
                None,
                body=RefreshBody,
                body_optional=True,
                answers={204: None},
                problems=(403,),
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
                "POST",
                "/internal/sessions/resume",
                self.resume,
                "An access token for a browser's session",
                "internal",
                None,
                body=SessionBody,
                answers={200: ResumedView},
                problems=(404,),
                internal=True,
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
        browser = call.query_as(LoginQuery).session == "cookie"
        password = body.password.get_secret_value()
        pair = await self._sessions.login(body.email, password, actor(call), browser=browser)
        return self._browsers.begun(call, pair) if browser else tokens(pair)

    async def refresh(self, call: Call) -> Answer:
        token, session = _shown(call)
        if token is not None:
            return tokens(await self._sessions.refresh(token))
        try:
            return self._browsers.begun(call, await self._sessions.resume(session))
        except NotFound as ended:
            raise Unauthenticated(ended.code, ended.detail) from None

    async def logout(self, call: Call) -> Answer:
        token, session = _shown(call)
        await self._sessions.logout(token or session, actor(call))
        return Answer(status=204, headers={} if token else set_cookie(call, "", 0))

    async def resume(self, call: Call) -> Answer:
        """For the gateway, who has the cookie and needs a token to hand on."""
        pair = await self._sessions.resume(call.body_as(SessionBody).session.get_secret_value())
        return Answer(ResumedView(access_token=pair.access_token, expires_at=self._sessions.until(pair)))

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
                csrf_token=self._csrf_token(identity),
                permissions=sorted(identity.permissions(call.workspace_id)),
            )
        )

    def _csrf_token(self, identity: Identity) -> str | None:
        login = identity.family is not None and identity.scopes is None
        return self._browsers.csrf_token(str(identity.family)) if login else None

    async def revoked(self, _: Call) -> Answer:
        """For our services, when they may have missed what was told."""
        known = [RevocationView(**asdict(one)) for one in await self._sessions.revoked()]
        return Answer(RevokedView(revoked=known))

    async def jwks(self, _: Call) -> Answer:
        return Answer(self._keys.jwks(), headers={"Cache-Control": "public, max-age=60"})


def tokens(pair: Pair) -> Answer:
    """What a program is given."""
    view = PairView(access_token=pair.access_token, refresh_token=pair.refresh_token, expires_in=pair.expires_in)
    return Answer(BegunView(view), headers=UNSTORED)


def set_cookie(call: Call, value: str, life_seconds: int, name: str = cookies.SESSION) -> dict[str, str]:
    """The headers of an answer that gives a browser this cookie, as the caller came to the gateway."""
    host, scheme = call.headers.get("X-Forwarded-Host", ""), call.headers.get("X-Forwarded-Proto", "")
    cookie = cookies.set_cookie(value, life_seconds, plainly=cookies.plain(host, scheme), name=name)
    return {"Set-Cookie": cookie, **UNSTORED}


def _shown(call: Call) -> tuple[str | None, str]:
    """The refresh token of the body, or else the session of a cookie; raises Invalid where there is neither."""
    given = call.body_as(RefreshBody).refresh_token
    session = call.headers.get(cookies.ONWARD[cookies.SESSION])
    if given is None and session is None:
        message = "this field is required, unless a cookie stands for it"
        missing = FieldError("refresh_token", message, "missing-field")
        raise Invalid("body-invalid", f"refresh_token: {message}.", errors=[missing])
    return given.get_secret_value() if given else None, session or ""
