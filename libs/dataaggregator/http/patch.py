"""RFC 7396 merge patch."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from dataaggregator.http.validation import invalid_body

M = TypeVar("M", bound=BaseModel)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2: members of objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def apply(model: type[M], current: Mapping[str, Any], patch: Mapping[str, Any]) -> M:
    """``current`` (plain JSON) with ``patch`` as a checked ``model``; raises Invalid naming every wrong field."""
    try:
        return model.model_validate_json(orjson.dumps(merge(current, patch)), strict=True)
    except ValidationError as error:
        raise invalid_body(error) from None
