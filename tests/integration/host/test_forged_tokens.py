"""Every service judges tokens itself: none of those that are forged, spoilt, ended or meant for another is let in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aiohttp
import pytest
from pydantic import SecretStr

from dataaggregator.composition import compose
from dataaggregator.host import Host
from dataaggregator.http.tokens import ServiceTokens
from dataaggregator.installed import installed_services
from dataaggregator.ports import Ports
from dataaggregator.rate import Rate
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings
from services.auth.keys.signing import SigningKeys
from tests.security import tried
from tests.unit.http.conftest import Issuer, SetClock
from tests.unit.http.test_tokens import FORGERIES, NO_TOKENS, WRONG, mutated, signed

pytestmark = [pytest.mark.security, pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")]

ADMIN = {"email": "admin@example.org", "password": "the admin's password"}
SERVICES = [service.name for service in installed_services()]
AT_ONCE = 20
REFUSED = 401
LONGEST = 8_000  # of a header: what is longer is no call


@dataclass
class House:
    """All services in one process, each with a door of its own; `issuer` holds the very key that auth signs with."""

    ports: Ports
    http: aiohttp.ClientSession
    doors: dict[str, str]
    issuer: Issuer
    token: str

    async def let_in(self, service: str, tokens: Sequence[str]) -> list[tuple[str, int]]:
        """Those of them that were answered by anything but that they are no good."""
        url, turns = self.ports.directory.url(service) + self.doors[service], asyncio.Semaphore(AT_ONCE)

        async def one(token: str) -> tuple[str, int]:
            async with turns, self.http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
                return token, answer.status

        return [answer for answer in await asyncio.gather(*map(one, tokens)) if answer[1] != REFUSED]


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    first = {"bootstrap_admin_email": ADMIN["email"], "bootstrap_admin_password": SecretStr(ADMIN["password"])}
    # More calls than any address may make are made here, all of them wrong.
    unlimited = {"rate_limit_api": Rate(1_000_000, 60), "gateway_port": 0, "stop_seconds": 2.0}
    ports = compose(settings.model_copy(update=first | unlimited))
    services = [service.build(ports) for service in installed_services()]
    async with Host(services, ports, handle_signals=False), aiohttp.ClientSession() as http:
        async with http.post(f"{ports.directory.url('auth')}/api/auth/login", json=ADMIN) as answer:
            token = (await answer.json())["access_token"]
        keys = SigningKeys(ports.database, ports.keys, ports.clock)
        await keys.refresh()
        key = keys._signer()
        issuer = Issuer(SetClock(ports.clock.now()), key.private, key.kid)
        yield House(ports, http, {service.name: door(service) for service in services}, issuer, token)


def door(service: Service) -> str:
    """Something of it that is read by who is somebody."""
    return next(
        route.path
        for route in service.routes
        if route.method == "GET" and route.permission is not None and not route.internal and not route.parameters
    )


def forged(house: House, service: str) -> list[str]:
    """Of nobody's, of everybody's, and rightly signed with claims that are not right."""
    issuer, clock, others = house.issuer, house.ports.clock, [name for name in SERVICES if name != service]
    claims, second = issuer.claims(), int(clock.now().timestamp())
    foreign = ServiceTokens(KeyRing("another secret key of more than 32 characters"), "scheduler", clock)
    return [
        *(forge(issuer) for forge in FORGERIES),
        *(text for text in NO_TOKENS if 0 < len(text) < LONGEST),
        *(signed(issuer, {name: claims[name] for name in claims if name != left}) for left in WRONG if left != "dws"),
        *(signed(issuer, {**claims, name: wrong}) for name, wrongs in WRONG.items() for wrong in wrongs),
        *(issuer.token(iat=second - ago, exp=second - ago + 900) for ago in (901, 1_000, 10_000_000)),
        issuer.token(iat=second + 120),
        issuer.token(nbf=second + 120),
        *(ServiceTokens(house.ports.keys, "gateway", clock).token(other) for other in others),
        foreign.token(service),
    ]


async def test_no_token_that_is_not_right_is_let_in(house: House) -> None:
    right = [house.token, house.issuer.token()]
    for service in SERVICES:
        assert {token for token, _ in await house.let_in(service, right)} == set(right), "a right one is"
        tokens = forged(house, service)
        assert await house.let_in(service, tokens) == [], service
        assert len(tokens) >= 80


async def test_no_token_that_was_changed_in_one_place_is_let_in(house: House) -> None:
    tokens = tried(mutated(house.token))
    for service in SERVICES:
        assert await house.let_in(service, tokens) == [], service
