"""Idempotency commands: carry a request out once, give its answer again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from dataaggregator.clock import Clock
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs
from services.gateway.forward import Unanswered

from . import store
from .domain import KEEP_SECONDS, LOST_AFTER_SECONDS, Kept, Outcome, Owner, Record, answer_of, outcome

log = logs.get("gateway")

Carry = Callable[[UUID], Awaitable[Kept]]
"""Hands the request on under the id of its key, by which a service that sees it twice does it once."""


class Idempotency:
    """The use case of Idempotency-Key."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def once(self, owner: Owner, key: str, fingerprint: bytes, carry: Carry) -> tuple[Kept, bool]:
        """The answer to a request and whether it was given before.

        Raises what `answer_of` raises. A request that nothing was decided about frees the key. One that got no
        answer, or at which a service failed, keeps it: asked again it is handed on under the same id, and the
        service knows whether it was done (docs/guarantees/calls.md).
        """
        now = self._clock.now()
        outlived, lost = now - timedelta(seconds=KEEP_SECONDS), now - timedelta(seconds=LOST_AFTER_SECONDS)
        # What the request changes is committed later, to the same disk: a crash that takes the claim takes that too.
        async with self._database.transaction(owner.workspace_id, durable=False) as tx:
            found = await store.claim(tx, owner, key, fingerprint, now=now, outlived=outlived, lost=lost)
        if isinstance(found, Record):
            return answer_of(found, fingerprint), True
        # Once begun it is seen through, also when the caller goes away: the answer is what the key is for.
        return await asyncio.shield(asyncio.ensure_future(self._carry_out(owner, key, found, carry))), False

    async def forget_outlived(self) -> None:
        async with self._database.platform() as tx:
            await store.remove_outlived(tx, self._clock.now() - timedelta(seconds=KEEP_SECONDS))

    async def _carry_out(self, owner: Owner, key: str, id_: UUID, carry: Carry) -> Kept:
        try:
            kept = await carry(id_)
        except Unanswered:
            await self._end(owner, key, Outcome.UNKNOWN)
            raise
        except BaseException:
            await self._end(owner, key, Outcome.NOT_DONE)
            raise
        await self._end(owner, key, outcome(kept.status), kept)
        return kept

    async def _end(self, owner: Owner, key: str, ended: Outcome, kept: Kept | None = None) -> None:
        try:
            async with self._database.transaction(owner.workspace_id) as tx:
                if ended is Outcome.FINAL and kept is not None:
                    await store.keep(tx, owner, key, kept, self._clock.now())
                elif ended is Outcome.NOT_DONE:
                    await store.give_up(tx, owner, key)
                else:
                    await store.let_go(tx, owner, key)
        except Transient as error:
            # The caller still gets the answer; after LOST_AFTER_SECONDS the key is as good as let go.
            log.warning("key_not_settled", outcome=ended.value, code=error.code)
