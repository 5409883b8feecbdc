"""CORS and security headers: which pages may call from a browser, and what a browser may do with an answer. Pure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

_METHODS = "GET, POST, PUT, PATCH, DELETE"
_TAKEN = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, "
    "X-CSRF-Token, X-Request-ID, X-Workspace, traceparent"
)
_TOLD = (
    "Deprecation, ETag, Idempotent-Replayed, Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, "
    "Retry-After, Sunset, WWW-Authenticate, X-Request-ID, traceparent"
)
_PREFLIGHT_SECONDS = "600"

_TLS_ONLY = "max-age=31536000"
_BELOW_TOO = "; includeSubDomains"

_API_POLICY = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def origin_headers(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """What an answer says to the page that asked; nothing to a page of another origin."""
    if origin is None or origin not in allowed:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": _TOLD,
    }


def preflight_headers(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """What a preflight is answered; a page of another origin is not told that it may."""
    if origin is None or origin not in allowed:
        return {}
    return {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _TAKEN,
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
    }


def security_headers(path: str, *, over_tls: bool, below_too: bool = False) -> Mapping[str, str]:
    """Over TLS a browser is told to come by no other way; who comes in the clear cannot be told so (RFC 6797, 7.2)."""
    return _security_headers(path.startswith("/api/docs"), over_tls, below_too)


@lru_cache
def _security_headers(of_a_page: bool, over_tls: bool, below_too: bool) -> Mapping[str, str]:
    told = _TLS_ONLY + (_BELOW_TOO if below_too else "")
    headers = {"Strict-Transport-Security": told} if over_tls else {}
    return headers | {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": _PAGE_POLICY if of_a_page else _API_POLICY,
    }
