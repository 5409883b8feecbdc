"""What middlewares answer: a place in the router for it, so that no route is looked for in vain."""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web


class Passed(web.PlainResource):
    """Fits every path below /api of which ``passes`` is true, with any method; nobody comes as far as its route."""

    def __init__(
        self, passes: Callable[[str], bool], expect: Callable[[web.Request], Awaitable[web.StreamResponse | None]]
    ) -> None:
        super().__init__("/api")
        self._passes = passes
        self._route = self.add_route(hdrs.METH_ANY, _unanswered, expect_handler=expect)

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """See aiohttp; it asks what stands at a longer path first."""
        fits = self._passes(request.rel_url.raw_path)
        return (web.UrlMappingMatchInfo({}, self._route) if fits else None), set()


async def _unanswered(_: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound
