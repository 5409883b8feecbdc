"""Browsers: the cookies of a session and of a login under way, and what tells a page's own calls from forged."""

import hashlib
import hmac
import ipaddress
import re

from aiohttp import web

#: A browser takes such a name only over TLS, for this very host and no domain above it (RFC 6265bis, 4.1.3.2).
PREFIX = "__Host-"
SESSION = "dataaggregator"
#: Of a login at an identity provider that has been begun in this browser.
LOGIN = "dataaggregator-login"
CSRF_HEADER = "X-CSRF-Token"
#: How the gateway hands a cookie on to auth, who alone has to see it.
ONWARD = {SESSION: "Session-Cookie", LOGIN: "Login-Cookie"}
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


def shown_by(request: web.Request, name: str = SESSION) -> str | None:
    """What a browser shows under this name; without the prefix only where no other name could be kept."""
    shown = request.cookies.get(name if plain(request.host, request.scheme) else PREFIX + name, "")
    return shown if _WRITTEN.fullmatch(shown) else None


def set_cookie(value: str, life_seconds: int, *, plainly: bool, name: str = SESSION) -> str:
    """A Set-Cookie header; a life of 0 takes the cookie away."""
    prefix, secure = ("", "") if plainly else (PREFIX, "; Secure")
    return f"{prefix}{name}={value}; Path=/; Max-Age={life_seconds}; HttpOnly; SameSite=Lax{secure}"


def csrf_token(key: bytes, family: str) -> str:
    """Bound to the session: it is good with no other, and who reads only the page's address cannot make it."""
    return hmac.new(key, family.encode(), hashlib.sha256).hexdigest()
