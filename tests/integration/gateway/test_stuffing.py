"""Passwords tried by the thousand: whoever comes from one address, or tries one account, is let in at its pace."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

import pytest

from dataaggregator.settings import Settings
from tests.security import tried

from .conftest import ADMIN, Platform, started

pytestmark = pytest.mark.security

TRIES = 10  # a minute, as RATE_LIMIT_LOGIN says
AT_ONCE = 25
Try = tuple[str, str]


async def answers(platform: Platform, tries: Iterable[Try]) -> Counter[int]:
    """How often which status answered; each try is an account and the address that the caller claims to have."""
    waiting, told = iter(tries), Counter[int]()

    async def go_on() -> None:
        for account, address in waiting:
            body = {"email": account, "password": "guess"}
            status, _, _ = await platform.call(
                "POST", "/api/auth/login", body, token="", X_Forwarded_For=address, X_Real_IP=address
            )
            told[status] += 1

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    return told


def numbered(count: int) -> Iterator[int]:
    yield from map(int, tried(map(str, range(count))))


async def test_ten_thousand_accounts_from_one_address_are_tried_ten_times(platform: Platform) -> None:
    """Whatever address each of the calls claims to come from."""
    tries = [(f"{number}@example.org", f"10.{number >> 8}.{number & 0xFF}.1") for number in numbered(10_000)]
    told = await answers(platform, tries)
    # One of the ten was the administrator's own login.
    assert told == {401: TRIES - 1, 429: len(tries) - TRIES + 1}


async def test_one_account_from_a_thousand_addresses_is_tried_ten_times(platform_settings: Settings) -> None:
    """Behind a proxy that is trusted each address is another caller, and each has tries of its own."""
    settings = platform_settings.model_copy(update={"trusted_proxies": (ip_network("127.0.0.1"),)})
    async with started(settings) as platform:
        addresses = [f"10.{number >> 8}.{number & 0xFF}.1" for number in numbered(1_000)]
        told = await answers(platform, [("somebody@example.org", address) for address in addresses])
        assert told == {401: TRIES, 429: len(addresses) - TRIES}
        told = await answers(platform, [(ADMIN[0].upper(), address) for address in addresses[::2]])
        assert told == {401: TRIES - 1, 429: len(addresses[::2]) - TRIES + 1}, "however it is written"
