"""Whose token a call is judged by: that of its Authorization header, or the one that the edge put in its place."""

from aiohttp import web

from dataaggregator.http import parse
from dataaggregator.http.identity import Identity

#: The access token of a caller who showed something else; for middlewares.
INSTEAD: web.RequestKey[str | None] = web.RequestKey("bearer_instead")

#: Who a call comes from, once that is known; for the line that tells of it.
CALLER = web.RequestKey("caller", Identity)


def authorization(request: web.Request) -> str | None:
    """As the Authorization header has it, or would."""
    instead = request.get(INSTEAD)
    return f"Bearer {instead}" if instead is not None else parse.header(request, "Authorization")
