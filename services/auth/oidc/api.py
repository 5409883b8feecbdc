"""OIDC, HTTP door: to the identity provider, and back from it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.errors import FieldError, Invalid
from dataaggregator.http import cookies
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Query
from dataaggregator.http.route import Route
from dataaggregator.settings import Settings
from services.auth.calls import actor
from services.auth.sessions.api import BegunView, Browsers, set_cookie, tokens

from .commands import OidcLogins, Returned
from .domain import LIFE_SECONDS, returns_well
from .store import Login

Text = Annotated[str | None, Field(max_length=4000)]


class LoginQuery(Query):
    session: Literal["cookie"] | None = Field(None, description="A cookie for a browser, instead of tokens.")
    return_to: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Where the browser goes with its cookie: a path here, or a page of an origin in CORS_ORIGINS.",
    )


class CallbackQuery(BaseModel):
    """What a provider adds to it is not looked at (RFC 6749, 4.1.2)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Text = None
    code: Text = None
    iss: Text = None
    error: Annotated[str | None, Field(max_length=200, pattern=r"^[ !#-\[\]-~]*$")] = None


class OidcApi:
    """The routes of logins at the identity provider."""

    def __init__(self, logins: OidcLogins, browsers: Browsers, settings: Settings) -> None:
        self._logins = logins
        self._browsers = browsers
        self._origins = settings.cors_origins

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/api/auth/oidc/login",
                self.begin_login,
                "Go to the identity provider",
                "identity",
                None,
                query=LoginQuery,
                answers={302: None},
                problems=(404, 502),
                description="A cookie of ten minutes binds the login to this browser.",
            ),
            Route(
                "GET",
                "/api/auth/oidc/callback",
                self.end_login,
                "Come back from the identity provider",
                "identity",
                None,
                query=CallbackQuery,
                answers={200: BegunView, 303: None},
                problems=(401, 403, 404, 409, 502),
                description="Good once. Answers as a login with a password does, or sends the browser to return_to.",
            ),
        ]

    async def begin_login(self, call: Call) -> Answer:
        query = call.query_as(LoginQuery)
        self._check(query)
        url, secret = await self._logins.begin(Login(query.session == "cookie", query.return_to))
        headers = set_cookie(call, secret, LIFE_SECONDS, cookies.LOGIN)
        return Answer(status=302, headers={"Location": url, **headers})

    async def end_login(self, call: Call) -> Answer:
        query = call.query_as(CallbackQuery)
        secret = call.headers.get(cookies.ONWARD[cookies.LOGIN], "")
        returned = Returned(query.state, query.code, query.iss, query.error)
        pair, login = await self._logins.finish(secret, returned, actor(call))
        if not login.browser:
            return tokens(pair)
        begun = self._browsers.begun(call, pair)
        if login.return_to is None:
            return begun
        return Answer(status=303, headers={**begun.headers, "Location": login.return_to})

    def _check(self, query: LoginQuery) -> None:
        """Raises Invalid for a return that would lead elsewhere, or lose the tokens."""
        target = query.return_to
        if target is None:
            return
        message = None
        if query.session is None:
            message = "needs session=cookie: a page that one is sent to has no tokens"
        elif not returns_well(target, self._origins):
            message = "should be a path such as /api/docs, or a page of an origin in CORS_ORIGINS"
        if message is not None:
            wrong = FieldError("return_to", message, "return-to")
            raise Invalid("query-invalid", f"return_to: {message}.", errors=[wrong])
