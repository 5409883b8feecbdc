"""Pages, HTTP door: the documents and the pages that show them."""

from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any

import orjson
from pydantic import RootModel

from dataaggregator.catalogue import CATALOGUE
from dataaggregator.contracts import asyncapi
from dataaggregator.http.answer import Answer, TextAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from services.gateway.documents import Documents

_HTML = "text/html; charset=utf-8"
_BRIEFLY = {"Cache-Control": "public, max-age=300"}


class Document(RootModel[dict[str, Any]]):
    """A document that describes the platform to programs."""


class PagesApi:
    """The routes of documents and pages; nobody needs to be logged in to read how to log in."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._errors = _errors_page()

    def routes(self) -> list[Route]:
        tag = "documents"
        return [
            Route(
                "GET", "/api/openapi.json", self.openapi, "The API as OpenAPI 3.1", tag, None, answers={200: Document}
            ),
            Route(
                "GET",
                "/api/asyncapi.json",
                self.asyncapi,
                "The events as AsyncAPI 3",
                tag,
                None,
                answers={200: Document},
            ),
            Route(
                "GET",
                "/api/docs",
                _File("index.html", _HTML),
                "Read and try the API",
                tag,
                None,
                produces=("text/html",),
            ),
            Route(
                "GET",
                "/api/docs/page.js",
                _File("page.js", "text/javascript; charset=utf-8"),
                "The page's script",
                tag,
                None,
                produces=("text/javascript",),
            ),
            Route(
                "GET",
                "/api/docs/style.css",
                _File("style.css", "text/css; charset=utf-8"),
                "The page's style",
                tag,
                None,
                produces=("text/css",),
            ),
            Route("GET", "/api/docs/errors", self.errors, "Every error code", tag, None, produces=("text/html",)),
        ]

    async def openapi(self, _: Call) -> Answer:
        document = orjson.dumps(await self._documents.openapi())
        return TextAnswer(text=document, content_type="application/json", headers={"Cache-Control": "no-cache"})

    async def asyncapi(self, _: Call) -> Answer:
        return TextAnswer(text=self._asyncapi, content_type="application/json", headers=_BRIEFLY)

    @cached_property
    def _asyncapi(self) -> bytes:
        """Written when it is asked for first: that takes as long as all else of a gateway's start."""
        return orjson.dumps(asyncapi.document())

    async def errors(self, _: Call) -> Answer:
        return TextAnswer(text=self._errors, content_type=_HTML, headers=_BRIEFLY)


class _File:
    """A file beside this room, read once."""

    def __init__(self, name: str, content_type: str) -> None:
        self._text = (files(__package__) / name).read_bytes()
        self._content_type = content_type

    async def __call__(self, _: Call) -> Answer:
        return TextAnswer(text=self._text, content_type=self._content_type, headers=_BRIEFLY)


def _errors_page() -> str:
    """Every code with its title and cure; the `type` of each problem leads to its place here."""
    entries = "\n".join(
        f'<article id="{escape(code)}"><h2><code>{escape(code)}</code></h2>'
        f"<p><strong>{escape(entry.title)}</strong></p><p>{escape(entry.cure)}</p></article>"
        for code, entry in sorted(CATALOGUE.items())
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Errors</title>'
        '<link rel="stylesheet" href="/api/docs/style.css"></head>\n'
        f'<body><h1>Errors</h1><p><a href="/api/docs">The API</a></p>\n{entries}\n</body></html>\n'
    )
