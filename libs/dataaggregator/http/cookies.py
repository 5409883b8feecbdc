"""Sessions of browsers: the cookie that carries one, and the token that tells the page's own calls from forged ones."""

import hashlib
import hmac
import ipaddress
import re

from aiohttp import web

#: A browser takes the first only over TLS, for this very host and no domain above it (RFC 6265bis, 4.1.3.2).
NAME = "__Host-dataaggregator"
PLAIN_NAME = "dataaggregator"
CSRF_HEADER = "X-CSRF-Token"
#: How the gateway hands a cookie on to auth, who alone has to see it.
ONWARD = "Session-Cookie"
PURPOSE = "csrf"
_WRITTEN = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes in base64


def plain(host: str, scheme: str) -> bool:
    """Is it a call without TLS that never leaves the machine? There a browser may keep the cookie as it is."""
    name = host.rsplit(":", 1)[0].strip("[]")
    if scheme == "https":
        return False
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def session_of(request: web.Request) -> str | None:
    """The session that a browser shows; one without the prefix only where no other name could be kept."""
    shown = request.cookies.get(PLAIN_NAME if plain(request.host, request.scheme) else NAME, "")
    return shown if _WRITTEN.fullmatch(shown) else None


def set_cookie(session: str, life_seconds: int, *, plainly: bool) -> str:
    """A Set-Cookie header; a life of 0 takes the cookie away."""
    name, secure = (PLAIN_NAME, "") if plainly else (NAME, "; Secure")
    return f"{name}={session}; Path=/; Max-Age={life_seconds}; HttpOnly; SameSite=Lax{secure}"


def csrf_token(key: bytes, family: str) -> str:
    """Bound to the session: it is good with no other, and who reads only the page's address cannot make it."""
    return hmac.new(key, family.encode(), hashlib.sha256).hexdigest()
