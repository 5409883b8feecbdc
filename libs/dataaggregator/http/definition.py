"""Definitions at the HTTP door: the six operations, who calls, as the audit trail names them, and edits that honour
If-Match."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel

from dataaggregator.definition import Author, Edit, Saved
from dataaggregator.http import etag, patch
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission

M = TypeVar("M", bound=BaseModel)


class Definitions(Protocol):
    """Who answers the six operations."""

    async def list_page(self, call: Call) -> Answer: ...
    async def create(self, call: Call) -> Answer: ...
    async def get(self, call: Call) -> Answer: ...
    async def replace(self, call: Call) -> Answer: ...
    async def patch(self, call: Call) -> Answer: ...
    async def delete(self, call: Call) -> Answer: ...


class Titles(NamedTuple):
    """What each of the six does, in words."""

    list_page: str
    create: str
    get: str
    replace: str
    patch: str
    delete: str


class Models(NamedTuple):
    """What is sent and shown: `made` is what a caller sees who has just made one."""

    query: type[BaseModel]
    page: type[BaseModel]
    body: type[BaseModel]
    made: type[BaseModel]
    shown: type[BaseModel]


def definition_routes(
    api: Definitions,
    one: str,
    tag: str,
    titles: Titles,
    models: Models,
    *,
    create: str = "",
    changing: tuple[int, ...] = (409,),
    deleting: tuple[int, ...] = (409,),
) -> Sequence[Route]:
    """The six of a kind of definition: `one` is the path of one of them, `create` says more of making one, `changing`
    and `deleting` are the problems there: usually a name that is taken, and one that is in use."""
    read, write = Permission.DEFINITIONS_READ, Permission.DEFINITIONS_WRITE
    all_, good = one.rpartition("/")[0], {200: models.shown}
    return (
        Route("GET", all_, api.list_page, titles.list_page, tag, read, query=models.query, answers={200: models.page}),
        Route(
            "POST", all_, api.create, titles.create, tag, write, body=models.body, answers={201: models.made},
            problems=(409,), etag=True, idempotent=True, description=create,
        ),
        Route("GET", one, api.get, titles.get, tag, read, answers=good, etag=True),
        Route(
            "PUT", one, api.replace, titles.replace, tag, write, body=models.body, answers=good, problems=changing,
            etag=True,
        ),
        Route(
            "PATCH", one, api.patch, titles.patch, tag, write, body=models.body, merge_patch=True, answers=good,
            problems=changing, etag=True,
        ),
        Route("DELETE", one, api.delete, titles.delete, tag, write, answers={204: None}, problems=deleting, etag=True),
    )  # fmt: skip


def author(call: Call) -> Author:
    identity = call.identity
    name, request_id = identity.email or identity.service, call.headers.get("X-Request-ID")
    return Author(identity.user_id, name, call.address, request_id, identity.key)


def expect(call: Call) -> Callable[[int], None]:
    """Refuses a version that If-Match does not name."""
    return partial(etag.check, call.if_match)


def replacing(call: Call, model: type[M]) -> Edit[M]:
    """PUT: the body in place of what is there."""
    body = call.body_as(model)
    return Edit(expect(call), lambda _: body)


def patching(call: Call, model: type[M]) -> Edit[M]:
    """PATCH: the body merged into what its author wrote; raises Invalid naming every field that then is wrong."""
    changes: Any = call.body

    def change(current: Saved[M]) -> M:
        return patch.apply(model, current.written, changes)

    return Edit(expect(call), change)


def shown(model: type[M], saved: Saved[Any], **more: Any) -> M:
    """A definition as an answer shows it; one that cannot be read is shown as it is stored."""
    fields = {**saved.meta, **more}
    definition = saved.find_definition()
    if definition is None:
        return model.model_construct(**{**saved.written, **fields})
    return model.model_validate({**dict(definition), **fields})
