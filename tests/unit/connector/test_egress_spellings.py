"""Egress, spellings: however an address inside is written, named, redirected to or rebound, nobody there is called."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from dataaggregator.connector.addresses import Reach, reach
from dataaggregator.connector.egress import Egress, EgressPolicy, HostList
from dataaggregator.errors import Invalid, PlatformError
from tests.inside import INSIDE, OPEN_HOST, Canary, listening, spelled

pytestmark = pytest.mark.security

REDIRECTS = (301, 302, 303, 307, 308)


URLS = (
    "http://{host}:{port}/", "http://outside.example@{host}:{port}/", "http://outside.example:80@{host}:{port}/",
    "http://{host}:{port}#@outside.example/", "http://{host}:{port}?@outside.example/", "HTTP://{host}:{port}/",
    "http://outside.example%40{host}:{port}/", "http:///{host}:{port}/", "http://{host}:{port}\\@outside.example/",
    "http://outside.example\\@{host}:{port}/", "http://outside.example%2f@{host}:{port}/", "http://{host}:{port}@/",
)  # fmt: skip
NAMES = ("localhost", "LocalHost", "localhost.", "a.localhost", "\uff4cocalhost", "127.0.0.1.inside.example")
NOBODY = (PlatformError, aiohttp.ClientError, ValueError)
"""How a call that reaches nobody ends: at the guard, or because the URL is none."""


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with listening() as canary:
        yield canary


@dataclass
class Lookups:
    """In place of DNS: names and what they lead to; the last answer stays."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    otherwise: str = "127.0.0.1"
    asked: list[str] = field(default_factory=list)

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[Any]:
        try:  # what the system takes for an address without asking anybody
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            self.asked.append(host)
        answers = self.answers.get(host, [self.otherwise])
        ip = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]


@pytest.fixture
async def lookups(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    """Every name that is not an address leads inside: no resolver could be worse."""
    lookups = Lookups()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookups.getaddrinfo)
    return lookups


async def called(policy: EgressPolicy, urls: Sequence[str]) -> list[str]:
    """Those that somebody answered."""
    answered = []
    async with Egress(policy).session(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for url in urls:
            try:
                async with session.get(url):
                    answered.append(url)
            except NOBODY:
                continue
    return answered


@pytest.mark.parametrize("address", INSIDE)
async def test_no_spelling_of_an_address_inside_is_let_through(lookups: Lookups, address: str) -> None:
    lookups.otherwise = address
    # Where private networks are open, what hands out credentials stays closed.
    policy = EgressPolicy(private=reach(address)[0] is Reach.NEVER)
    let_through = []
    for spelling in spelled(address):
        try:
            found = await Egress(policy).resolve(spelling, 80)
        except Invalid as error:
            let_through += [] if error.code == "egress-denied" else [(spelling, error.code)]
        else:  # 010.1.2.3 is 8.1.2.3 to whoever connects, and that is where it leads
            elsewhere = ":" not in found.ip and ipaddress.ip_address(found.ip).is_global
            let_through += [] if elsewhere else [(spelling, found.ip)]
    assert let_through == []
    assert len(list(spelled(address))) >= 40


async def test_no_url_leads_a_session_inside(lookups: Lookups, canary: Canary) -> None:
    named = [f"http://{host}:{canary.port}/" for host in NAMES]
    named += [url.format(host=host, port=canary.port) for url in URLS for host in ("127.0.0.1", "2130706433", "0x7f.1")]
    urls = [
        f"http://{host}:{canary.port}/" for host in (*spelled("127.0.0.1"), *spelled("127.8.9.10"), "[::1]", "[::]")
    ]
    assert await called(EgressPolicy(), named + urls) == []
    assert canary.calls == 0
    assert len(named + urls) >= 100
    assert len(await called(EgressPolicy(private=True), named)) == canary.calls >= 20, "they would lead there"


async def test_no_redirect_leads_a_session_inside(lookups: Lookups, canary: Canary) -> None:
    """From a host that may be reached: at once, and after it has led to itself."""
    to = [f"http://{host}:{canary.port}/" for host in ("127.0.0.1", "2130706433", "0x7f.1", "[::ffff:7f00:1]", *NAMES)]
    to += [
        f"//127.1:{canary.port}/",
        f"http://a@127.0.0.1:{canary.port}/",
        f"http://127.0.0.1:{canary.port}#@{OPEN_HOST}",
    ]
    policy = EgressPolicy(allow=HostList.parse(OPEN_HOST))
    async with leading(to) as port:
        ways = [
            f"http://{OPEN_HOST}:{port}/{hops}/{status}/{number}"
            for hops in (0, 3)
            for status in REDIRECTS
            for number in range(len(to))
        ]
        assert await called(policy, ways) == []
        assert canary.calls == 0
        assert await called(EgressPolicy(private=True), ways) == ways
        assert canary.calls == len(ways) >= 100


@asynccontextmanager
async def leading(to: Sequence[str]) -> AsyncIterator[int]:
    """A server at the open host that leads on: `/{hops}/{status}/{where}`."""

    async def lead(request: web.Request) -> web.Response:
        hops, status, number = (int(request.match_info[name]) for name in ("hops", "status", "number"))
        place = f"/{hops - 1}/{status}/{number}" if hops else to[number]
        return web.Response(status=status, headers={"Location": place})

    application = web.Application()
    application.router.add_get("/{hops}/{status}/{number}", lead)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, OPEN_HOST, 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_name_that_leads_elsewhere_a_moment_later_is_judged_then(lookups: Lookups, canary: Canary) -> None:
    """What was judged is what is connected to: nobody asks again in between."""
    lookups.answers = {"turning.example": [OPEN_HOST, "127.0.0.1"]}
    policy = EgressPolicy(allow=HostList.parse(OPEN_HOST))
    url = f"http://turning.example:{canary.port}/"
    assert await called(policy, [url]) == [url]
    assert (lookups.asked, canary.calls) == (["turning.example"], 1)
    assert await called(policy, [url]) == []
    assert (lookups.asked, canary.calls) == (["turning.example"] * 2, 1)
    lookups.answers = {"turning.example": [OPEN_HOST, "127.0.0.1"]}
    judged = await Egress(policy).resolve("turning.example", canary.port)
    assert (judged.ip, judged.host) == (OPEN_HOST, "turning.example")
