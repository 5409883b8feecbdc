"""Passwords: bcrypt over a keyed pre-hash, in threads of its own so that the loop never waits for it."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from dataaggregator.errors import Transient

Result = TypeVar("Result")

THREADS = 2
WAITING_AT_MOST = 64
# No real password: verifying against it makes an unknown e-mail cost what a known one costs.
DECOY = b"nobody has this password"


class Passwords:
    """Hashes and verifies passwords; `cost` is bcrypt's (12 is about 0.3 s of a core)."""

    def __init__(self, cost: int, threads: int = THREADS) -> None:
        self._pepper = b""
        self._cost = cost
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")
        self._waiting = 0
        self._decoy = ""

    async def open(self, pepper: bytes) -> None:
        """`pepper` keys the pre-hash: the hashes alone can then not be attacked."""
        self._pepper = pepper
        self._decoy = await self.hash(DECOY.decode())

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        return await self._in_thread(self._hash, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """True when `password` is the one `hashed` was made of; without one it is as slow, and False."""
        matches = await self._in_thread(self._matches, password, hashed or self._decoy)
        return matches and hashed is not None

    def outdated(self, hashed: str) -> bool:
        """Made with another cost than the one set now: to be hashed again at the next login."""
        return int(hashed.split("$")[2]) != self._cost

    def _prehash(self, password: str) -> bytes:
        # bcrypt takes 72 bytes and no NUL: the base64 of a MAC is 44 safe bytes for any password.
        return base64.b64encode(hmac.new(self._pepper, password.encode(), hashlib.sha256).digest())

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(self._prehash(password), bcrypt.gensalt(self._cost)).decode()

    def _matches(self, password: str, hashed: str) -> bool:
        return bcrypt.checkpw(self._prehash(password), hashed.encode())

    async def _in_thread(self, work: Callable[..., Result], *arguments: str) -> Result:
        if self._waiting >= WAITING_AT_MOST:
            raise Transient("login-busy", "Too many logins at once; try again in a moment.", retry_after=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._waiting -= 1
