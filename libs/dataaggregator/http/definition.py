"""Definitions at the HTTP door: who calls, as the audit trail names them, and edits that honour If-Match."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from dataaggregator.definition import Author, Edit, Saved
from dataaggregator.http import etag, patch
from dataaggregator.http.call import Call

M = TypeVar("M", bound=BaseModel)


def author(call: Call) -> Author:
    identity = call.identity
    return Author(identity.user_id, identity.email or identity.service, call.address, call.headers.get("X-Request-ID"))


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
