"""Heads: what of a call's head goes on to the service, and what of its answer's goes back to the caller."""

import re
import time
from collections.abc import Mapping, Set
from email.utils import formatdate
from functools import lru_cache
from uuid import UUID

from aiohttp import web
from aiohttp.http import RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy

from dataaggregator.http import cookies
from dataaggregator.http.bearer import INSTEAD
from dataaggregator.telemetry import traces

from .callers import SHOWN

#: How the caller came to the outermost proxy that is trusted: http or https.
SCHEME = web.RequestKey("scheme", str)

# RFC 9110, 7.6.1: of the connection, not of the call.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Written anew for every call; a content coding has been taken off the body by the server already.
_NOT_ON = frozenset(
    name.encode()
    for name in _HOP_BY_HOP
    | {
        "host",
        "cookie",
        "content-length",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "traceparent",
        "idempotency-id",
        *(header.lower() for header in cookies.ONWARD.values()),
    }
)
_NOT_BACK = _HOP_BY_HOP | {"server", "date"}
_REQUEST_ID = re.compile(r"^[\x21-\x7e]{1,128}$")
# All but the tab; the ends of lines are among them, and are counted.
_CONTROLS = bytes({*range(32), 127} - {9})
# RFC 9110, 8.6: of any other method it is told that no body comes.
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# The answer under a key is kept as it is: who asks again may take another coding.
_NOT_KEYED = frozenset({b"idempotency-key", b"accept-encoding"})
# What the server has taken off a body that it reads.
_DECODED = frozenset({"gzip", "deflate", "br", "zstd"})


def onward(request: web.Request, address: str, *, length: int | None, id_: UUID | None = None) -> bytes:
    """The lines of a call's head that go on, and what is said of the caller and the body; to its empty line.

    ``length`` is that of the body, None if it is sent in chunks; ``id_`` that of its Idempotency-Key.
    """
    dropped = _NOT_ON if id_ is None else _NOT_ON | _NOT_KEYED
    if (named := request.headers.get("Connection")) is not None:
        dropped = dropped | {token.strip().lower().encode() for token in named.split(",")}
    if decoded(request):
        dropped = dropped | {b"content-encoding"}
    told = [
        f"X-Forwarded-For: {address}\r\n",
        f"X-Forwarded-Host: {request.host}\r\n",
        f"X-Forwarded-Proto: {request[SCHEME]}\r\n",
        f"X-Request-ID: {request_id(request)}\r\n",
    ]
    if (instead := request.get(INSTEAD)) is not None:
        dropped = dropped | {b"authorization"}
        told.append(f"Authorization: Bearer {instead}\r\n")
    if (shown := request.get(SHOWN)) is not None:
        told.append(f"{cookies.ONWARD[shown[0]]}: {shown[1]}\r\n")
    if traceparent := traces.traceparent():
        told.append(f"traceparent: {traceparent}\r\n")
    if id_ is not None:
        told.append(f"Idempotency-Id: {id_}\r\n")
    if length is None:
        told.append("Transfer-Encoding: chunked\r\n")
    elif length or request.method not in _WITHOUT_BODY:
        told.append(f"Content-Length: {length}\r\n")
    lines = [b"%s: %s\r\n" % line for line in request.raw_headers if line[0].lower() not in dropped]
    return ended(lines, told)


def ended(lines: list[bytes], told: list[str]) -> bytes:
    """As they are written; raises ValueError for a line that would be two."""
    written = b"".join(lines) + "".join(told).encode("utf-8", "surrogateescape") + b"\r\n"
    if len(written) - len(written.translate(None, _CONTROLS)) != 2 * (len(lines) + len(told) + 1):
        raise ValueError("a header has a line end or another control character in it")
    return written


def decoded(request: web.Request) -> bool:
    """Has the server taken a content coding off the body? Then its length is not what its head tells."""
    coding = request.headers.get("Content-Encoding")
    return coding is not None and coding.lower() in _DECODED


def request_id(request: web.Request) -> str:
    """The caller's own id for the call if it is a sane one, else the trace's."""
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.match(given) else traces.trace_id() or ""


def back(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """What goes back to the caller of an answer's head."""
    dropped = _NOT_BACK | _named(headers)
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def back_at_once(message: RawResponseMessage, told: Mapping[str, str], length: int) -> bytes:
    """The whole head of an answer of `length` bytes as it is written, with what is `told` in place of the service's."""
    dropped = _without(tuple(told))
    if "Connection" in message.headers:
        dropped = dropped | {name.encode() for name in _named(message.headers)}
    begin = b"HTTP/1.1 %d %s\r\n" % (message.code, (message.reason or "").encode("utf-8", "surrogateescape"))
    lines = [b"%s: %s\r\n" % line for line in message.raw_headers if line[0].lower() not in dropped]
    return ended(
        [begin, *lines],
        [f"Content-Length: {length}\r\n", f"Date: {_date(int(time.time()))}\r\n"]
        + [f"{name}: {value}\r\n" for name, value in told.items()],
    )


def _named(headers: Mapping[str, str]) -> Set[str]:
    """What an answer's Connection names."""
    named = headers.get("Connection")
    return frozenset() if named is None else {token.strip().lower() for token in named.split(",")}


@lru_cache(maxsize=100)
def _without(told: tuple[str, ...]) -> Set[bytes]:
    return frozenset(name.lower().encode() for name in (*_NOT_BACK, "content-length", *told))


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
