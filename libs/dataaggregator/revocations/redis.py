"""Revocations for several processes: auth's table is the truth, Redis carries the news, each process remembers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from dataaggregator.clock import Clock
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.redis_link import Address, LinkDownError, RedisLink, RedisRefusedError
from dataaggregator.revocations import TELL_SECONDS, Revocation, RevokedKind, TokenFacts
from dataaggregator.revocations.memory import Memory
from dataaggregator.revocations.wire import packed, unpacked
from dataaggregator.telemetry import logs

SILENCE_SECONDS = 2.2 * TELL_SECONDS
ASK_AGAIN_SECONDS = 1.4 * TELL_SECONDS  # longer than TELL_SECONDS: auth that is heard again need not be asked

Ask = Callable[[], Awaitable[Sequence[Revocation]]]

log = logs.get(__name__)


class RedisRevocations:
    """Redis stores nothing of it, so that emptying or losing Redis takes nothing back.

    Every process hears auth tell the news on a channel, at least every TELL_SECONDS. One that has heard nothing for
    SILENCE_SECONDS, or whose connection was made anew, cannot know what it missed: it asks auth for the whole, by
    ``ask``, every ASK_AGAIN_SECONDS until auth is heard again. A process that never heard the whole says so instead of
    letting a token in. So a revocation is obeyed everywhere within SILENCE_SECONDS and the time of one call to auth,
    whatever happens to Redis; a process that reaches neither Redis nor auth goes on with what it knows.
    """

    name = "revocations"

    def __init__(self, url: str, clock: Clock, ask: Ask) -> None:
        self._clock = clock
        self._ask = ask
        self._memory = Memory(clock)
        channel = f"revocations:{Address.parse(url).database}"
        self._channel = channel
        self._link = RedisLink(url, channel=channel, hear=self._heard, found=self._reconnected)
        self._untold: dict[tuple[RevokedKind, str], Revocation] = {}
        self._whole = False
        self._missed = True
        self._due_at = 0.0
        self._woken = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Seek Redis and begin to follow; what is revoked is learnt in the background."""
        await self._link.open()
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name="revocations")

    async def close(self) -> None:
        """Stop following; what is known stays known."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait([follower])
        await self._link.close()

    async def ping(self) -> None:
        """Return if it is known what is revoked, whether Redis answers now or not; raises Transient."""
        if not self._whole:
            raise _unknown()

    def revoked(self, token: TokenFacts) -> bool:
        if not self._whole:
            raise _unknown()
        return self._memory.concerns(token)

    async def revoke(self, revocation: Revocation) -> None:
        self._remember([revocation])
        await self._publish()

    async def tell(self, revocations: Iterable[Revocation], *, whole: bool = False) -> None:
        self._remember(revocations)
        if whole:
            self._whole, self._missed = True, False
        self._hear_again_within(SILENCE_SECONDS)
        await self._publish()

    def _remember(self, revocations: Iterable[Revocation]) -> None:
        for new in self._memory.add(revocations):
            self._untold[(new.kind, new.id)] = new

    async def _publish(self) -> None:
        """Say what others may not know yet; what cannot be said now is said the next time."""
        now = self._clock.now()
        self._untold = {key: one for key, one in self._untold.items() if one.until > now}
        told = dict(self._untold)
        try:
            await self._link.call("PUBLISH", self._channel, packed(told.values()))
        except (LinkDownError, RedisRefusedError):
            return
        self._untold = {key: one for key, one in self._untold.items() if told.get(key) is not one}

    def _heard(self, body: bytes) -> None:
        """Auth has told something, if only that there is nothing new."""
        self._memory.add(unpacked(body))
        if not self._missed:
            self._hear_again_within(SILENCE_SECONDS)

    def _reconnected(self) -> None:
        self._missed = True
        self._due_at = 0.0
        self._woken.set()

    def _hear_again_within(self, seconds: float) -> None:
        self._due_at = asyncio.get_running_loop().time() + seconds

    async def _follow(self) -> None:
        """Ask auth whenever something may have been missed."""
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            if (pause := self._due_at - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
                continue
            self._hear_again_within(ASK_AGAIN_SECONDS)
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Learn the whole from auth; a connection made anew meanwhile asks again."""
        missed, self._missed = self._missed, False
        try:
            self._memory.add(await self._ask())
        except PlatformError as error:
            self._missed = True
            if not missed:
                log.warning("revocations_not_learnt", code=error.code, known=self._whole)
        except Exception as bug:
            self._missed = True
            log.bug("revocations_not_learnt", bug)
        else:
            self._whole = True


def _unknown() -> Transient:
    detail = "What was revoked is not known yet, so no token can be trusted; auth has to answer first."
    return Transient("revocations-unknown", detail, retry_after=1)
