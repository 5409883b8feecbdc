"""Routing: which service answers a path, and what is said about it before a token is looked at. Pure."""

import re

# The first that fits decides, so the narrower ones stand first.
_TABLE = (
    (r"(?:audit|auth|users|workspaces|api-keys)(?:/|$)", "auth"),
    (r"(?:connector-types|connectors)(?:/|$)", "connectors"),
    (r"(?:transformations|triggers|hooks)(?:/|$)", "scheduler"),
    (r"(?:pipelines|backfills)(?:/|$)", "scheduler"),
    (r"(?:apply|export)$", "scheduler"),
    (r"runs/[^/]+/events$", "gateway"),
    (r"runs/[^/]+/rejected/replay$", "scheduler"),
    (r"runs/[^/]+/(?:ledger|rejected|logs|verify)(?:/|$)", "executor"),
    (r"runs(?:/|$)", "scheduler"),
    (r"run-limits$", "executor"),
)
_FITS = re.compile(f"/api/(?:{'|'.join(f'({pattern})' for pattern, _ in _TABLE)})")

SERVICES = ("auth", "connectors", "executor", "gateway", "scheduler")

_PUBLIC = frozenset(
    {
        ("POST", "/api/auth/login"),
        ("POST", "/api/auth/refresh"),
        ("POST", "/api/auth/logout"),
        ("POST", "/api/auth/password/reset"),
        ("GET", "/api/auth/oidc/login"),
        ("GET", "/api/auth/oidc/callback"),
        ("GET", "/api/auth/jwks.json"),
        ("HEAD", "/api/auth/jwks.json"),
    }
)
# These end or prolong what a cookie stands for; no other open call is made in the name of one.
_OF_A_SESSION = frozenset({"/api/auth/refresh", "/api/auth/logout"})
_CALLBACK = "/api/auth/oidc/callback"
# The token in the path or in a header says who calls.
_HOOK = re.compile(r"/api/hooks(/[^/]+)?$")
# What is given out here is not to be stored: tokens; rows of a source or a sample.
_NOT_KEPT = re.compile(r"/api/(auth|hooks)/|/api/(api-keys|hooks)$|/api/.+/(test|preview|hook/rotate|password-reset)$")
_LOGINS = frozenset(
    {("POST", "/api/auth/login"), ("POST", "/api/auth/password/reset"), ("GET", "/api/auth/oidc/login")}
)
_RUN_START = re.compile(
    r"/api/(pipelines/[^/]+/(runs|backfills)|runs/[^/]+/(retry|rejected/replay)|backfills/[^/]+/retry|hooks(/[^/]+)?)$"
)


_NEEDLESS = re.compile(r"%(2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])")


def canonical(raw_path: str) -> str:
    """The path with its unreserved characters plain (RFC 3986, 6.2.2.2).

    What is limited and let in here must be what the service will understand: `%6Cogin` is `login` to it.
    """
    return _NEEDLESS.sub(lambda found: chr(int(found[1], 16)), raw_path) if "%" in raw_path else raw_path


def service_of(path: str) -> str | None:
    """The service a path is forwarded to; None for the gateway's own and for what nobody serves."""
    found = _FITS.match(path)
    service = None if found is None or found.lastindex is None else _TABLE[found.lastindex - 1][1]
    return None if service == "gateway" else service


def forwarded(raw_path: str) -> bool:
    """Is a path as it was sent one that a service answers?"""
    return service_of(canonical(raw_path)) is not None


def public(method: str, path: str) -> bool:
    """May it be called without a token? The service decides again; the edge only must not be stricter."""
    return (method, path) in _PUBLIC or (method == "POST" and _HOOK.match(path) is not None)


def of_a_session(path: str) -> bool:
    """Does it speak to auth of the session itself?"""
    return path in _OF_A_SESSION


def ends_a_login(path: str) -> bool:
    """Does a browser come here from an identity provider?"""
    return path == _CALLBACK


def keeps_answer(method: str, path: str) -> bool:
    """Does an Idempotency-Key count here? It does where something is created or started."""
    return method == "POST" and not _NOT_KEPT.match(path)


def limit_class(method: str, path: str) -> str:
    """The rate limit class of a call: api, login or run."""
    if (method, path) in _LOGINS:
        return "login"
    if method == "POST" and _RUN_START.match(path):
        return "run"
    return "api"
