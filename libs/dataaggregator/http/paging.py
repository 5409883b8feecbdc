"""Lists: the page and its query."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.page_cursor import decode_cursor, encode_cursor

__all__ = ["Page", "PageQuery", "Query", "decode_cursor", "encode_cursor", "page_of"]

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list; ``next_cursor`` is null on the last one. One of large items ends before its limit."""

    items: list[T]
    next_cursor: str | None = None


class Query(BaseModel):
    """Base of every query model: what is not declared is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """The query of a list; a route that sorts narrows ``sort`` to a Literal of its fields."""

    limit: Annotated[int, Field(ge=1, le=500, description="How many items at most.")] = 50
    cursor: Annotated[str | None, Field(max_length=1000, description="next_cursor of the page before.")] = None
    sort: Annotated[
        str | None, Field(pattern=r"^-?[a-z_]{1,40}$", description="A field; with - before it, downwards.")
    ] = None


def page_of(rows: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> Page[T]:
    """A page from at most ``limit + 1`` rows: the one too many only says that there are more."""
    more = len(rows) > limit
    items = list(rows[:limit])
    return Page[T].model_construct(items=items, next_cursor=cursor_of(items[-1]) if more else None)
