"""Revocations that Redis carries keep the port's promises, and no trouble with Redis takes one back or holds it up."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from dataaggregator.errors import Transient
from dataaggregator.redis_link import RedisLink
from dataaggregator.revocations import TELL_SECONDS, Revocation, Revocations
from dataaggregator.revocations.redis import SILENCE_SECONDS, RedisRevocations
from deploy.local.redis import PrivateRedis
from tests.unit.kit.revocations_conformance import LATER, NOW, RevocationsConformance, SetClock, token

BOUND_SECONDS = 2.0
U = Revocation("user", "u", NOW, LATER)
V = Revocation("user", "v", NOW, LATER)


@dataclass
class Table:
    """What auth has written down, as far as it answers when it is asked."""

    written: list[Revocation] = field(default_factory=list)
    answers: bool = True
    asked: int = 0

    async def ask(self) -> list[Revocation]:
        self.asked += 1
        if not self.answers:
            raise Transient("service-unavailable", "The service auth does not answer.")
        return list(self.written)


class TestRedisRevocations(RevocationsConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self._url = redis_url

    def make(self) -> Revocations:
        return RedisRevocations(self._url, SetClock(), Table(answers=False).ask)


@dataclass
class House:
    """Auth, who reads its table and tells, and another process that only hears; each with Redis by itself."""

    table: Table
    auth: RedisRevocations
    other: RedisRevocations

    async def write(self, revocation: Revocation) -> None:
        """As auth does it: written down, then told."""
        self.table.written.append(revocation)
        await self.auth.revoke(revocation)

    async def obeyed(self, user: str) -> None:
        """Wait until the other process refuses a token of this user; fails when that takes longer than promised."""
        await within(BOUND_SECONDS, lambda: self.other.revoked(token(user_id=user)))


async def within(seconds: float, true: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def pulse(revocations: RedisRevocations, table: Table) -> None:
    while True:
        await revocations.tell(table.written)
        await asyncio.sleep(TELL_SECONDS)


@asynccontextmanager
async def open_house(auth_url: str, other_url: str) -> AsyncIterator[House]:
    table = Table()
    house = House(table, *(RedisRevocations(url, SetClock(), table.ask) for url in (auth_url, other_url)))
    await house.auth.open()
    await house.auth.tell([], whole=True)
    pulsing = asyncio.create_task(pulse(house.auth, table))
    await house.other.open()
    await within(5, lambda: not _unknown(house.other))
    yield house
    pulsing.cancel()
    await asyncio.wait([pulsing])
    await house.other.close()
    await house.auth.close()


def _unknown(revocations: RedisRevocations) -> bool:
    try:
        revocations.revoked(token())
    except Transient:
        return True
    return False


@pytest.fixture
async def house(redis_url: str) -> AsyncIterator[House]:
    async with open_house(redis_url, redis_url) as house:
        yield house


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_what_one_process_revokes_all_refuse(house: House) -> None:
    await house.write(U)
    await house.obeyed("u")
    assert not house.other.revoked(token(user_id="v"))


async def test_auth_is_not_asked_while_it_is_heard(house: House) -> None:
    asked, began = house.table.asked, house.other._due_at
    await within(30, lambda: house.other._due_at > began + 3 * SILENCE_SECONDS)
    assert house.table.asked == asked


async def test_a_process_that_knows_nothing_trusts_no_token(redis_url: str) -> None:
    table = Table(written=[U], answers=False)
    revocations = RedisRevocations(redis_url, SetClock(), table.ask)
    await revocations.open()
    await within(5, lambda: table.asked > 0)
    assert _unknown(revocations)
    with pytest.raises(Transient) as refused:
        await revocations.ping()
    assert refused.value.code == "revocations-unknown"
    table.answers = True
    await within(5, lambda: not _unknown(revocations))
    assert revocations.revoked(token())
    await revocations.ping()
    await revocations.close()


async def test_a_pulse_alone_teaches_nobody_the_whole(redis_url: str) -> None:
    table = Table(written=[U], answers=False)
    auth, other = (RedisRevocations(redis_url, SetClock(), table.ask) for _ in range(2))
    await other.open()
    await auth.open()
    await auth.tell([])
    await auth.tell([V])
    await within(5, lambda: other._memory.concerns(token(user_id="v")))
    assert _unknown(other)
    pulsing = asyncio.create_task(pulse(auth, Table()))
    table.answers = True
    await within(5, lambda: not _unknown(other))
    pulsing.cancel()
    await asyncio.wait([pulsing])
    await other.close()
    await auth.close()


async def test_a_revocation_is_told_at_once_and_waits_for_no_pulse(redis_url: str) -> None:
    table = Table(answers=False)
    auth, other = (RedisRevocations(redis_url, SetClock(), table.ask) for _ in range(2))
    await other.open()
    await auth.open()
    await auth.revoke(U)
    await within(5, lambda: other._memory.concerns(token(user_id="u")))
    await other.close()
    await auth.close()


async def test_an_emptied_redis_takes_nothing_back_and_holds_nothing_up(
    house: House, redis_server: PrivateRedis
) -> None:
    await house.write(U)
    await house.obeyed("u")
    redis_server.flush()
    assert house.other.revoked(token(user_id="u"))
    await house.write(V)
    await house.obeyed("v")


async def test_who_starts_on_an_emptied_redis_knows_what_was_revoked_before(
    house: House, redis_server: PrivateRedis, redis_url: str
) -> None:
    await house.write(U)
    redis_server.flush()
    late = RedisRevocations(redis_url, SetClock(), house.table.ask)
    await late.open()
    await within(BOUND_SECONDS, lambda: not _unknown(late))
    assert late.revoked(token(user_id="u"))
    await late.close()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_dead_redis_holds_nothing_up(house: House, redis_server: PrivateRedis, restarted: bool) -> None:
    redis_server.kill()
    try:
        await house.write(U)
        if restarted:
            redis_server.start()
        await house.obeyed("u")
    finally:
        if redis_server.pid is None:
            redis_server.start()
    await house.write(V)
    await house.obeyed("v")


async def test_a_redis_that_never_answers_holds_nothing_up(house: House, redis_server: PrivateRedis) -> None:
    redis_server.pause()
    try:
        await house.write(U)
        await house.obeyed("u")
        await house.write(V)
        await house.obeyed("v")
    finally:
        redis_server.resume()


async def test_what_was_told_while_a_process_was_cut_off_is_asked_for(house: House, redis_url: str) -> None:
    link = RedisLink(redis_url)
    await link.open()
    for number in range(5):
        wire = house.other._link._wire
        assert wire is not None
        assert wire._transport is not None
        host, port = wire._transport.get_extra_info("sockname")
        assert await link.call("CLIENT", "KILL", "ADDR", f"{host}:{port}") == 1
        await house.write(Revocation("user", f"w{number}", NOW, LATER))
        assert not house.other._link.up
        await house.obeyed(f"w{number}")
        await within(5, lambda: house.other._link.up)
    await link.close()


async def test_what_auth_could_not_tell_it_tells_later(redis_server: PrivateRedis, redis_url: str) -> None:
    async with open_house(redis_url, redis_url) as house:
        house.table.answers = False  # so that only Redis can bring it
        redis_server.kill()
        await house.write(U)
        redis_server.start()
        await within(5, lambda: house.other.revoked(token(user_id="u")))


async def test_a_process_cut_off_from_redis_alone_asks_auth(redis_url: str, unused_port: int) -> None:
    async with open_house(redis_url, f"redis://127.0.0.1:{unused_port}/0") as house:
        await house.write(U)
        await house.obeyed("u")


async def test_auth_cut_off_from_redis_alone_is_asked(redis_url: str, unused_port: int) -> None:
    async with open_house(f"redis://127.0.0.1:{unused_port}/0", redis_url) as house:
        await house.write(U)
        await house.obeyed("u")


async def test_who_reaches_neither_goes_on_with_what_is_known(house: House, redis_server: PrivateRedis) -> None:
    await house.write(U)
    await house.obeyed("u")
    house.table.answers = False
    redis_server.kill()
    try:
        asked = house.table.asked
        await within(10, lambda: house.table.asked > asked + 1)
        assert house.other.revoked(token(user_id="u"))
        assert not house.other.revoked(token(user_id="v"))
    finally:
        redis_server.start()


async def test_nonsense_on_the_channel_harms_nobody(house: House, redis_url: str) -> None:
    link = RedisLink(redis_url)
    await link.open()
    for nonsense in ("", "{}", '{"revoked": [{}]}', '{"revoked": [{"kind": "user", "id": "u"}]}', "[]", "\x00"):
        assert await link.call("PUBLISH", "revocations:0", nonsense) >= 1
    await link.close()
    await house.write(U)
    await house.obeyed("u")


async def test_another_database_of_the_same_redis_is_another_platform(
    redis_server: PrivateRedis, redis_url: str
) -> None:
    async with open_house(redis_url, redis_server.database_url(1)) as house:
        asked = house.table.asked
        await within(10, lambda: house.table.asked > asked + 1)


async def test_what_no_longer_matters_is_not_told(house: House) -> None:
    await house.auth.revoke(Revocation("token", "old", NOW - timedelta(hours=2), NOW - timedelta(hours=1)))
    assert house.auth._untold == {}
    await house.write(U)
    await house.obeyed("u")
    assert not house.other.revoked(token(user_id="v", token_id="old"))
