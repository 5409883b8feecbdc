"""One call as a handler sees it: who, in which workspace, with which validated input."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel

from dataaggregator.errors import Denied
from dataaggregator.http.identity import Identity
from dataaggregator.permissions import DEFAULT_WORKSPACE

M = TypeVar("M", bound=BaseModel)


@dataclass(slots=True)
class Call:
    """Everything has been checked: the token, the permission in the workspace, path, query and body."""

    identity: Identity
    workspace_id: UUID | None
    path: Mapping[str, str]
    body: Any
    query: Any
    headers: Mapping[str, str]
    if_match: str | None
    trace_id: str
    request: web.Request
    raw_body: bytes
    #: Raises Unauthenticated once the caller's token is good no more: what outlives the call asks again and again.
    recheck: Callable[[], Awaitable[object]]

    @property
    def address(self) -> str | None:
        """Where the caller is; behind the gateway as it saw it, who writes X-Forwarded-For anew for every call."""
        return self.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or self.request.remote

    @property
    def workspace(self) -> UUID:
        """The workspace of the call; raises Denied for a caller who has none."""
        if self.workspace_id is None:
            raise Denied("no-workspace", "You are not a member of any workspace.")
        return self.workspace_id

    @property
    def of_the_platform(self) -> bool:
        """Is the workspace of the call the one whose administrators look after what belongs to no workspace?"""
        membership = self.identity.membership(str(self.workspace))
        return membership is not None and membership.name == DEFAULT_WORKSPACE

    @property
    def idempotency_id(self) -> UUID | None:
        """The id of the call's Idempotency-Key, given by the gateway: the same call again comes with the same one.

        What is started under it takes it for its own id, so that a second one cannot be there.
        """
        try:
            return UUID(self.headers.get("Idempotency-Id", ""))
        except ValueError:
            return None

    def body_as(self, model: type[M]) -> M:
        """The body, typed; ``model`` is the one the route declares."""
        if not isinstance(self.body, model):
            raise TypeError(f"the route declares another body than {model.__name__}")
        return self.body

    def query_as(self, model: type[M]) -> M:
        """The query, typed; ``model`` is the one the route declares."""
        if not isinstance(self.query, model):
            raise TypeError(f"the route declares another query than {model.__name__}")
        return self.query

    def id(self, parameter: str) -> UUID:
        """A path parameter declared as ``{parameter:id}``."""
        return UUID(self.path[parameter])
