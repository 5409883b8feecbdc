"""An identity provider that says what a test wants, and logins by it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from dataaggregator.settings import Settings
from tests.integration.auth.conftest import Api, SetClock, started
from tests.serving import answering

KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
CALLBACK = "https://data.example.org/api/auth/oidc/callback"


@dataclass
class Provider:
    """Gives a token for whatever code, with the claims that a test wants, and says what the test wants elsewhere."""

    clock: SetClock
    url: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    """By path, what it answers instead: an object, text, or a status."""
    signs_with: int = 0
    kid: str | None = None
    publishes: tuple[int, ...] = (0,)
    taken: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.taken.append((request.path, {**form, "authorization": request.headers.get("Authorization", "")}))
        if self.hold is not None:
            await self.hold.wait()
        usual = {
            "/.well-known/openid-configuration": self.document,
            "/token": lambda: {"id_token": self.token(), "access_token": "an access token", "token_type": "Bearer"},
            "/keys": lambda: {"keys": [self._jwk(number) for number in self.publishes]},
            "/userinfo": lambda: {"sub": self.claims["sub"]},
        }
        said = self.told.get(request.path, usual.get(request.path, lambda: 404))
        said = said() if callable(said) else said
        if isinstance(said, int):
            return web.Response(status=said, headers={"Location": f"{self.url}/elsewhere"}, text="{}")
        return web.Response(text=said if isinstance(said, str) else json.dumps(said), content_type="application/json")

    def document(self, **more: Any) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            **more,
        }

    def token(self) -> str:
        now = int(self.clock.now().timestamp())
        claims = {"iss": self.url, "aud": "us", "iat": now, "exp": now + 60, **self.claims}
        kid = self.kid or f"key-{self.signs_with}"
        return jwt.encode(claims, KEYS[self.signs_with], algorithm="RS256", headers={"kid": kid})

    def asked(self, path: str) -> int:
        return sum(taken == path for taken, _ in self.taken)

    @staticmethod
    def _jwk(number: int) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[number].public_key(), as_dict=True)
        return {"kty": "RSA", "n": public["n"], "e": public["e"], "kid": f"key-{number}", "use": "sig"}


@asynccontextmanager
async def serving(clock: SetClock) -> AsyncIterator[Provider]:
    provider = Provider(clock)
    async with answering(provider.answer) as provider.url:
        yield provider
        if provider.hold is not None:
            provider.hold.set()


def set_up(settings: Settings, provider: Provider) -> Settings:
    """Settings with which people log in by this provider."""
    return settings.model_copy(
        update={
            "oidc_issuer": provider.url,
            "oidc_client_id": "us",
            "oidc_client_secret": SecretStr("a secret: of ours"),
            "oidc_redirect_url": CALLBACK,
            "oidc_roles": ("team=viewer", "leads=admin"),
            "egress_allow": ("127.0.0.1",),
        }
    )


ADA: dict[str, Any] = {
    "sub": "ada-at-home",
    "email": "ada@example.org",
    "email_verified": True,
    "name": "Ada",
    "groups": ["team"],
}


async def begun(api: Api) -> tuple[str, dict[str, str]]:
    """The cookie of a login under way, and what the provider is asked for."""
    async with api.http.get(f"{api.url}/api/auth/oidc/login", allow_redirects=False) as answer:
        assert answer.status == 302, await answer.text()
        query = parse_qs(urlsplit(answer.headers["Location"]).query)
        cookie = answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
        return cookie, {name: values[0] for name, values in query.items()}


async def ended(api: Api, cookie: str, **query: str) -> tuple[int, Any]:
    path = f"/api/auth/oidc/callback?{urlencode(query)}"
    status, told, _ = await api.call("GET", path, Login_Cookie=cookie)
    return status, told


async def login(api: Api, provider: Provider, **claims: Any) -> tuple[int, Any]:
    """From its begin to its end, as who these claims say."""
    cookie, asked = await begun(api)
    provider.claims = {"nonce": asked["nonce"], **ADA, **claims}
    return await ended(api, cookie, state=asked["state"], code="a code")


async def refused(api: Api, provider: Provider, **claims: Any) -> tuple[int, str]:
    status, told = await login(api, provider, **claims)
    return status, told["code"]


@asynccontextmanager
async def set_to(settings: Settings, clock: SetClock, **more: Any) -> AsyncIterator[Api]:
    async with started(settings.model_copy(update=more), clock) as api:
        yield api


async def rows(api: Api, query: str) -> list[str]:
    async with api.database.platform() as tx:
        return [row[0] for row in await tx.fetch(f"SELECT found::text FROM ({query}) found")]


async def role_of(api: Api, email: str) -> str | None:
    _, user, _ = await api.call("GET", f"/api/users/{email}", token=await api.token())
    role: str | None = user.get("role")
    return role
