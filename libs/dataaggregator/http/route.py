"""One route as data: what it takes, whom it lets in, and every answer it may give."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import BaseModel

from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.permissions import Permission

_PARAMETER = re.compile(r"\{([a-z_]+)(?::([a-z]+))?\}")

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Route:
    """A route of a service.

    In ``path``, ``{run:id}`` takes an id, ``{pipeline}`` an id or a name; what does not look like one is 422.
    ``permission`` None means that nobody needs to be logged in. ``internal`` routes take calls of our services only.
    ``answers`` maps each good status to the model of its body, None for an empty one. ``problems`` are the statuses
    beyond those that follow from the rest of the route (see ``problem_statuses``).
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Answer]]
    summary: str
    tag: str
    permission: Permission | None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=lambda: {200: None})
    problems: tuple[int, ...] = ()
    internal: bool = False
    max_body_bytes: int = MEBIBYTE
    #: An empty body is taken for ``{}``.
    body_optional: bool = False
    #: The body is an RFC 7396 patch of ``body``: ``call.body`` is then the plain object, for ``patch.apply``.
    merge_patch: bool = False
    #: Answers carry an ETag; PUT, PATCH and DELETE take If-Match.
    etag: bool = False
    #: A POST that takes If-Match as well.
    if_match: bool = False
    #: Header → what it is, of those that have to be there and are peculiar to this route.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Takes Idempotency-Key (the gateway keeps the answers).
    idempotent: bool = False
    #: Only for who has logged in: no API key may do it.
    by_login: bool = False
    #: Content types of a good answer that is not JSON, or not always.
    produces: tuple[str, ...] = ()
    description: str = ""

    @cached_property
    def template(self) -> str:
        """The path as OpenAPI and the router write it: ``/api/runs/{run}``."""
        return _PARAMETER.sub(r"{\1}", self.path)

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """Path parameter → ``id`` or ``name`` (an id or a name)."""
        return {name: kind or "name" for name, kind in _PARAMETER.findall(self.path)}

    @property
    def conditional(self) -> bool:
        """Does it take If-Match?"""
        return self.if_match or (self.etag and self.method in ("PUT", "PATCH", "DELETE"))

    @cached_property
    def problem_statuses(self) -> tuple[int, ...]:
        """Every status of a problem this route may answer with, sorted."""
        statuses = {400, 422, 429, 500, 503, *self.problems}
        if self.permission is not None or self.internal:
            statuses |= {401, 403}
        if self.parameters:
            statuses.add(404)
        if self.body is not None:
            statuses |= {413, 415}
        if self.conditional:
            statuses.add(412)
        if self.idempotent:
            statuses.add(409)
        return tuple(sorted(statuses))
