"""Where the platform is and who is asking: options first, then the environment, then the embedded home."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
import orjson

from dataaggregator.cli.output import emit_json
from dataaggregator.client import ApiError, Client, UnreachableError
from dataaggregator.embedded.home import Home
from dataaggregator.errors import PlatformError

P = ParamSpec("P")
EXIT_FAILED = 1
EXIT_WRONG_USE = 2


@dataclass(frozen=True)
class Session:
    """What the options of the group say; kept by click and handed to every command."""

    url: str | None
    token: str | None
    workspace: str | None
    json: bool
    authority: Path | None = None

    @property
    def says_who(self) -> bool:
        """Is a login or a gateway named? Else it is whoever has this machine."""
        login = os.environ.get("DATAAGGREGATOR_EMAIL") and os.environ.get("DATAAGGREGATOR_PASSWORD")
        return bool(self.token or self.url or login)

    def tell(self, found: object, *sentences: str) -> None:
        """What a command did: the document for programs, the sentences for people."""
        if self.json:
            emit_json(found)
            return
        for sentence in sentences:
            click.echo(sentence)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A logged-in client. The login is kept beside the home, so that not every command logs in anew."""
        home = Home.default()
        kept = KeptLogin(home)
        url = self.url or home.gateway_url()
        if self.token is not None:
            async with self._client(url, token=self.token) as client:
                yield client
            return
        email, password = self._credentials(home)
        token, refresh_token = kept.read(url, email)
        async with self._client(url, token=token, refresh_token=refresh_token) as client:
            if not await _still_known(client):
                await client.login(email, password)
            try:
                yield client
            finally:
                kept.write(url, email, client.tokens)

    def _client(self, url: str | None, **login: str | None) -> Client:
        return Client(url, workspace=self.workspace, authority=self.authority, **login)

    @asynccontextmanager
    async def anonymous(self) -> AsyncIterator[Client]:
        """A client for what needs no login."""
        async with Client(self.url or Home.default().gateway_url(), authority=self.authority) as client:
            yield client

    @staticmethod
    def _credentials(home: Home) -> tuple[str, str]:
        email, password = os.environ.get("DATAAGGREGATOR_EMAIL"), os.environ.get("DATAAGGREGATOR_PASSWORD")
        if email and password:
            return email, password
        kept = home.credentials()
        if kept is None:
            raise click.UsageError(
                "Nobody is logged in: set DATAAGGREGATOR_TOKEN, or DATAAGGREGATOR_EMAIL and DATAAGGREGATOR_PASSWORD."
            )
        return kept


class KeptLogin:
    """The tokens of the last command, readable by their owner only; ended tokens in it are harmless."""

    def __init__(self, home: Home) -> None:
        self._path = home.path / "login.json"

    def read(self, url: str | None, email: str) -> tuple[str | None, str | None]:
        """Access and refresh token for this address and person, as far as they are kept."""
        try:
            kept = orjson.loads(self._path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None, None
        if not isinstance(kept, dict) or (kept.get("url"), kept.get("email")) != (url, email):
            return None, None
        return kept.get("token"), kept.get("refresh_token")

    def write(self, url: str | None, email: str, tokens: tuple[str | None, str | None]) -> None:
        """Keep them where there is a home; a machine without one logs in with each command."""
        token, refresh_token = tokens
        kept = {"url": url, "email": email, "token": token, "refresh_token": refresh_token}
        if not os.access(self._path.parent, os.W_OK):
            return
        draft = self._path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(kept))
        draft.rename(self._path)


async def _still_known(client: Client) -> bool:
    """Whether the kept tokens are still good; an access token that has ended is renewed on the way."""
    if client.tokens == (None, None):
        return False
    try:
        await client.get("/api/auth/me")
    except ApiError as error:
        if error.status == 401:
            return False
        raise
    return True


def command(
    function: Callable[Concatenate[Session, P], Awaitable[None]],
) -> Callable[P, None]:
    """Run a coroutine as a command; what goes wrong is one sentence on stderr, never a stack trace."""

    @click.pass_obj
    @functools.wraps(function)
    def run(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            asyncio.run(_finish(function(session, *args, **kwargs)))
        except (ApiError, UnreachableError) as error:
            click.echo(f"error: {error}", err=True)
            raise click.exceptions.Exit(EXIT_FAILED) from error
        except PlatformError as error:
            click.echo(f"error: {error.detail}", err=True)
            raise click.exceptions.Exit(EXIT_WRONG_USE) from error

    return run


async def _finish(work: Awaitable[Any]) -> None:
    await work
