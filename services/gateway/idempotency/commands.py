"""Idempotency commands: carry a request out once, give its answer again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import orjson

from dataaggregator.clock import Clock
from dataaggregator.db import Database
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.http import problems
from dataaggregator.telemetry import logs, traces
from services.gateway.forward import Unanswered

from . import store
from .domain import KEEP_SECONDS, Kept, Owner, answer_of, final, outcome_unknown

log = logs.get("gateway")

Carry = Callable[[], Awaitable[Kept]]


class Idempotency:
    """The use case of Idempotency-Key."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def once(self, owner: Owner, key: str, fingerprint: bytes, carry: Carry) -> tuple[Kept, bool]:
        """The answer to a request and whether it was given before.

        Raises what `answer_of` raises. A request that reached nobody, or that a service failed at with its work
        rolled back (5xx), frees the key; one that was sent and got no answer keeps it, answered 409 from then on.
        """
        now = self._clock.now()
        outlived = now - timedelta(seconds=KEEP_SECONDS)
        async with self._database.transaction(owner.workspace_id) as tx:
            record = await store.claim(tx, owner, key, fingerprint, now=now, outlived=outlived)
        if record is not None:
            return answer_of(record, fingerprint, now), True
        # Once begun it is seen through, also when the caller goes away: the answer is what the key is for.
        return await asyncio.shield(asyncio.ensure_future(self._carry_out(owner, key, carry))), False

    async def forget_outlived(self) -> None:
        async with self._database.platform() as tx:
            await store.remove_outlived(tx, self._clock.now() - timedelta(seconds=KEEP_SECONDS))

    async def _carry_out(self, owner: Owner, key: str, carry: Carry) -> Kept:
        try:
            kept = await carry()
        except Unanswered:
            await self._keep(owner, key, _as_kept(outcome_unknown()))
            raise
        except BaseException:
            await self._give_up(owner, key)
            raise
        if final(kept.status):
            await self._keep(owner, key, kept)
        else:
            await self._give_up(owner, key)
        return kept

    async def _keep(self, owner: Owner, key: str, kept: Kept) -> None:
        try:
            async with self._database.transaction(owner.workspace_id) as tx:
                await store.keep(tx, owner, key, kept, self._clock.now())
        except Transient as error:
            # The caller still gets the answer; the key then says that its outcome is not known, never does it again.
            log.warning("answer_not_kept", code=error.code)

    async def _give_up(self, owner: Owner, key: str) -> None:
        try:
            async with self._database.transaction(owner.workspace_id) as tx:
                await store.give_up(tx, owner, key)
        except Transient as error:
            log.warning("key_not_freed", code=error.code)


def _as_kept(error: PlatformError) -> Kept:
    body = orjson.dumps(problems.problem(error, traces.trace_id() or ""))
    return Kept(problems.status_of(error), {"Content-Type": problems.CONTENT_TYPE}, body)
