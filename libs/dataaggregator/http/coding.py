"""Compressed answers: which content coding the caller takes (RFC 9110, 12.5.3), and the work."""

import asyncio
import gzip
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import brotli

FROM_BYTES = 1024
_ASIDE_FROM_BYTES = 128 * 1024
_PART = re.compile(r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?$")

# The first of those that the caller likes best. A higher quality costs more time than it saves on the way.
_CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "br": partial(brotli.compress, quality=4),
    "gzip": partial(gzip.compress, compresslevel=4, mtime=0),
}
_SAME = {"x-gzip": "gzip"}


@lru_cache(maxsize=500)
def chosen(accepted: str | None) -> str | None:
    """The coding for this Accept-Encoding; None: as it is, also where the caller takes nothing that we have."""
    weights = _weights(accepted or "")
    best = max(weights.get(name, weights.get("*", 0.0)) for name in _CODINGS)
    if best == 0 or weights.get("identity", 0.0) > best:
        return None
    return next(name for name in _CODINGS if weights.get(name, weights.get("*", 0.0)) == best)


def _weights(accepted: str) -> Mapping[str, float]:
    """What cannot be read is passed over."""
    found: dict[str, float] = {}
    for part in accepted.split(","):
        if matched := _PART.match(part.strip()):
            name = matched[1].lower()
            found[_SAME.get(name, name)] = 1.0 if matched[2] is None else float(matched[2])
    return found


async def encoded(accepted: str | None, headers: dict[str, str], body: bytes) -> bytes:
    """The body as it is sent, and in `headers` how; what is small or is packed already stays as it is.

    So does what nobody may store: it may hold a secret, and the length of what is compressed beside a caller's own
    words tells of it (BREACH).
    """
    said = {name.lower(): value for name, value in headers.items()}
    if len(body) < FROM_BYTES or "content-encoding" in said or "no-store" in said.get("cache-control", ""):
        return body
    held = headers.get("Vary", "")
    if "accept-encoding" not in held.lower():
        headers["Vary"] = f"{held}, Accept-Encoding" if held else "Accept-Encoding"
    coding = chosen(accepted)
    if coding is None:
        return body
    headers["Content-Encoding"] = coding
    if len(body) < _ASIDE_FROM_BYTES:
        return _CODINGS[coding](body)
    return await asyncio.to_thread(_CODINGS[coding], body)
