"""`python -m tests.bench.paged_api FILE`: an API of pages, a line of the file each, at the address that it prints."""

import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web

from tests.serving import served

EMPTY = b'{"items": []}'


async def serve(pages: list[bytes]) -> None:
    async def answer(request: web.Request) -> web.Response:
        at = int(request.query["page"]) - 1
        return web.Response(body=pages[at] if at < len(pages) else EMPTY, content_type="application/json")

    application = web.Application()
    application.router.add_get("/orders", answer)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with served(application) as url:
        print(url, flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes().splitlines()))
