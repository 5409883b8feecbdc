"""Passwords: right ones match, the loop never waits, an unknown e-mail is no faster."""

import asyncio
import threading

import bcrypt
import pytest

from dataaggregator.errors import Transient
from services.auth.passwords import hashing as passwords
from services.auth.passwords.hashing import Passwords


@pytest.fixture
async def hasher() -> Passwords:
    hasher = Passwords(cost=4)
    await hasher.open(b"pepper")
    return hasher


@pytest.mark.parametrize("password", ["short", "x" * 1000, "ü" * 72, "nul\x00inside", "72" * 36 + "tail"])
async def test_any_password_matches_itself_and_nothing_else(hasher: Passwords, password: str) -> None:
    hashed = await hasher.hash(password)
    assert await hasher.verify(password, hashed)
    assert not await hasher.verify(password[:-1], hashed)
    assert not await hasher.verify(password + "x", hashed)


async def test_the_same_hash_means_nothing_under_another_pepper(hasher: Passwords) -> None:
    hashed = await hasher.hash("password")
    other = Passwords(cost=4)
    await other.open(b"another")
    assert not await other.verify("password", hashed)


async def test_an_unknown_email_costs_one_verification_too(hasher: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = await hasher.hash("password")
    costs: list[str] = []
    check = bcrypt.checkpw

    def counted(password: bytes, against: bytes) -> bool:
        costs.append(against.decode()[:7])
        return check(password, against)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    assert not await hasher.verify("password", None)
    assert not await hasher.verify(passwords.DECOY.decode(), None)
    assert await hasher.verify("password", hashed)
    assert costs == ["$2b$04$"] * 3


async def test_twenty_at_once_run_in_two_threads_and_never_in_the_loop(
    hasher: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = await hasher.hash("password")
    go, full, threads = threading.Event(), asyncio.Event(), set()
    loop = asyncio.get_running_loop()

    def held(_password: bytes, _hashed: bytes) -> bool:
        threads.add(threading.current_thread())
        if len(threads) == passwords.THREADS:
            loop.call_soon_threadsafe(full.set)
        go.wait(10)
        return True

    monkeypatch.setattr(bcrypt, "checkpw", held)
    logins = [asyncio.create_task(hasher.verify("password", hashed)) for _ in range(20)]
    await asyncio.wait_for(full.wait(), 10)  # the loop turns while every thread is held
    assert not any(login.done() for login in logins)
    go.set()
    assert all(await asyncio.gather(*logins))
    assert len(threads) == passwords.THREADS
    assert threading.main_thread() not in threads


async def test_more_than_can_wait_are_told_to_come_back(hasher: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAITING_AT_MOST", 0)
    with pytest.raises(Transient) as caught:
        await hasher.verify("password", None)
    assert (caught.value.code, caught.value.retry_after) == ("login-busy", 2)


async def test_a_hash_of_another_cost_is_to_be_made_anew(hasher: Passwords) -> None:
    hashed = await hasher.hash("password")
    assert not hasher.outdated(hashed)
    assert Passwords(cost=5).outdated(hashed)
