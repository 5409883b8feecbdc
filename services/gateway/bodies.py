"""Bodies: a request's body read whole, within a size and a time."""

import asyncio

from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError

from dataaggregator.errors import Malformed, TooLarge

BODY_SECONDS = 30


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """All of it; raises TooLarge, or Malformed for one that stops coming."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > limit_bytes:
                    raise TooLarge("body-too-large", f"The body may have at most {limit_bytes} bytes here.")
    except TimeoutError:
        raise Malformed("body-incomplete", f"The body did not arrive within {BODY_SECONDS} seconds.") from None
    except (ClientPayloadError, web.RequestPayloadError):
        raise Malformed("body-incomplete", "The body was cut off.") from None
    return bytes(body)
