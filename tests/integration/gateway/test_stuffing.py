"""Passwords tried by the thousand: whoever comes from one address, or tries one account, is let in at its pace."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

import pytest

from dataaggregator.settings import Settings
from tests.security import tried

from .conftest import ADMIN, Platform, started

pytestmark = pytest.mark.security

TRIES = 10  # a minute, as RATE_LIMIT_LOGIN says
SECONDS_FOR_ONE = 60 / TRIES
AT_ONCE = 25
Try = tuple[str, str]


async def let_in(platform: Platform, tries: Sequence[Try], left: int) -> bool:
    """Whether what was `left` of ten tries was judged and all others held back; one comes back every six seconds.

    Each try is an account and the address that the caller claims to have.
    """
    waiting, told, began = iter(tries), Counter[int](), time.monotonic()

    async def go_on() -> None:
        for account, address in waiting:
            body = {"email": account, "password": "guess"}
            status, _, _ = await platform.call(
                "POST", "/api/auth/login", body, token="", X_Forwarded_For=address, X_Real_IP=address
            )
            told[status] += 1

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    given_back = int((time.monotonic() - began) / SECONDS_FOR_ONE)
    assert told[401] + told[429] == len(tries), told
    return left <= told[401] <= TRIES + given_back


def numbered(count: int) -> Iterator[int]:
    yield from map(int, tried(map(str, range(count))))


async def test_ten_thousand_accounts_from_one_address_are_tried_ten_times(platform: Platform) -> None:
    """Whatever address each of the calls claims to come from."""
    tries = [(f"{number}@example.org", f"10.{number >> 8}.{number & 0xFF}.1") for number in numbered(10_000)]
    # One of the ten was the administrator's own login.
    assert await let_in(platform, tries, TRIES - 1)


async def test_one_account_from_a_thousand_addresses_is_tried_ten_times(platform_settings: Settings) -> None:
    """Behind a proxy that is trusted each address is another caller, and each has tries of its own."""
    settings = platform_settings.model_copy(update={"trusted_proxies": (ip_network("127.0.0.1"),)})
    async with started(settings) as platform:
        addresses = [f"10.{number >> 8}.{number & 0xFF}.1" for number in numbered(1_000)]
        assert await let_in(platform, [("somebody@example.org", address) for address in addresses], TRIES)
        again = [(ADMIN[0].upper(), address) for address in addresses[::2]]
        assert await let_in(platform, again, TRIES - 1), "however it is written"
