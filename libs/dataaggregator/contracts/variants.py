"""Contracts: one of several shapes, told apart by its fields, so that a wrong one gets one clear sentence."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import Discriminator, Tag
from pydantic_core import PydanticCustomError

_MARK = "<{}>"


def is_mark(part: int | str) -> bool:
    """Whether a part of a pydantic error location is the tag of a variant, not a field the user wrote."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def mark(tag: str) -> Tag:
    """The tag of one member of a union that is chosen by `choose`."""
    return Tag(_MARK.format(tag))


def choose(pick: Callable[[Any], str]) -> Discriminator:
    """A discriminator from a function that names the variant."""
    return Discriminator(lambda value: _MARK.format(pick(value)))


def exactly_one(value: Any, kinds: Sequence[str], *, what: str, besides: Iterable[str] = ()) -> str:
    """The one key of `value` that names a kind; `what` is the word for the whole, `besides` its other fields."""
    known = ", ".join(kinds)
    if not isinstance(value, Mapping):
        raise PydanticCustomError("kind", f"write a {what} as an object with one of: {known}")
    found = [key for key in value if key in kinds]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise PydanticCustomError(
            "kind", f"a {what} has exactly one kind, this one has {len(found)}: {', '.join(map(str, found))}"
        )
    others = [str(key) for key in value if key not in besides]
    if others:
        raise PydanticCustomError("kind", f"unknown {what} kind {', '.join(map(repr, others))}; the kinds are: {known}")
    raise PydanticCustomError("kind", f"a {what} needs exactly one kind: {known}")
