"""What a handler gives back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel

#: For answers that show a secret: nobody keeps them, and they are not compressed.
UNSTORED = {"Cache-Control": "no-store"}


@dataclass
class Answer:
    """A status, a body (a model, or a mapping that is already plain JSON) and headers; ``etag`` is a version."""

    body: BaseModel | Mapping[str, Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: int | None = None


@dataclass
class TextAnswer(Answer):
    """Text, bytes or a page of ``content_type``."""

    text: str | bytes = ""
    content_type: str = "text/plain; charset=utf-8"


@dataclass
class StreamAnswer(Answer):
    """An answer written piece by piece: ``write`` gets the opened response; the caller going away cancels it.

    One that breaks off is cut, so that it is not taken for the whole.
    """

    write: Callable[[web.StreamResponse], Awaitable[None]] | None = None
    content_type: str = "text/event-stream"

    @property
    def endless(self) -> bool:
        """Events have no end: a stream of them may end anywhere."""
        return self.content_type == "text/event-stream"
