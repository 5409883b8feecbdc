"""Where the platform is and who is asking: options first, then the environment, then the embedded home."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import click

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

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A logged-in client."""
        home = Home.default()
        async with Client(self.url or home.gateway_url(), token=self.token, workspace=self.workspace) as client:
            if self.token is None:
                email, password = self._credentials(home)
                await client.login(email, password)
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
