"""Hooks, commands: a call that starts a run once, and tokens made, replaced and taken back."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator import signatures
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author
from dataaggregator.errors import NotFound, RateLimited
from dataaggregator.limits import Limits
from dataaggregator.resealing import Sealed
from dataaggregator.secrets import KeyRing
from dataaggregator.telemetry import metrics
from services.scheduler import outbox
from services.scheduler.hooks import store
from services.scheduler.hooks.domain import PURPOSE, Delivery, Hook, aad, given_by, hash_of, new_token, unknown
from services.scheduler.pipelines import schedules
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.domain import Pipeline, parameters
from services.scheduler.pipelines.schedules import Slot
from services.scheduler.runs import commands as runs
from services.scheduler.runs import store as run_store
from services.scheduler.runs.domain import Asked, Run

SEALED = Sealed(
    "scheduler.hook_tokens", ("hash",), lambda row: (aad(row["schedule_id"]), PURPOSE), column="sealed_secret"
)


@dataclass(frozen=True)
class Made:
    """A token and a secret that are shown once; `previous_ends_at` is when the one before is good no more."""

    token: str
    secret: str
    previous_ends_at: datetime | None


@dataclass(frozen=True)
class HookCommands:
    database: Database
    keys: KeyRing
    limits: Limits

    async def receive(self, token: str, delivery: Delivery) -> Run:
        """The run that the call starts, or has started before; a call that is refused changes nothing."""
        hash_ = hash_of(token)
        async with self.database.platform() as tx:
            hook = await store.find(tx, hash_)
        if hook is None:
            raise unknown()
        if hook.trigger.signed:
            await self._verify(hook, delivery)
        webhook_id = delivery.id
        await self._limit(hook.workspace_id)
        async with self.database.transaction(hook.workspace_id) as tx:
            slot_at = await store.hold(tx, hook, hash_)
            if slot_at is None:
                raise unknown()
            before = await store.find_run(tx, hook, webhook_id) if webhook_id else None
            if before is not None:
                return await run_store.get(tx, hook.workspace_id, before)
            run = await _start(tx, hook, delivery, slot_at)
            if webhook_id:
                await store.add_delivery(tx, hook, webhook_id, run.id)
            return run

    async def rotate(
        self, workspace: UUID, reference: str, author: Author, secret: str | None, overlap_seconds: int
    ) -> Made:
        """A new token, the first one too; the one before is good for the overlap."""
        made, secret = new_token(), secret or signatures.new_secret()
        async with self.database.transaction(workspace) as tx:
            pipeline, hook = await self._lock(tx, workspace, reference)
            ends_at = await store.end_tokens(tx, hook, overlap_seconds)
            sealed = self.keys.seal(secret.encode(), aad=aad(hook.schedule_id), purpose=PURPOSE)
            await store.add_token(tx, hook, hash_of(made), sealed, author.user_id)
            await _audit(tx, pipeline, author, "pipeline.hook_rotated")
        return Made(made, secret, ends_at)

    async def revoke(self, workspace: UUID, reference: str, author: Author) -> None:
        """No token is good any more; the trigger waits for a new one."""
        async with self.database.transaction(workspace) as tx:
            pipeline, hook = await self._lock(tx, workspace, reference)
            await store.end_tokens(tx, hook, 0)
            await _audit(tx, pipeline, author, "pipeline.hook_revoked")

    async def _lock(self, tx: Connection, workspace: UUID, reference: str) -> tuple[Pipeline, Hook]:
        pipeline = await pipelines.get(tx, workspace, reference, lock="FOR UPDATE")
        return pipeline, await hook_of(tx, pipeline)

    async def _verify(self, hook: Hook, delivery: Delivery) -> None:
        async with self.database.transaction(hook.workspace_id) as tx:
            now, sealed = await run_store.now(tx), await store.secrets(tx, hook)
        secrets = [self.keys.open(one, aad=aad(hook.schedule_id), purpose=PURPOSE).decode() for one in sealed]
        signatures.verify(secrets, delivery.headers, delivery.raw, now)

    async def _limit(self, workspace: UUID) -> None:
        """The edge has counted the address; whose workspace it is is known only here."""
        decision = await self.limits.take("run", f"workspace:{workspace}")
        if not decision.allowed:
            metrics.RATE_LIMITED.of("run").inc()
            detail = f"Too many runs are started in this workspace; wait {decision.retry_after} s."
            raise RateLimited("rate-limited", detail, retry_after=decision.retry_after)


async def hook_of(tx: Connection, pipeline: Pipeline) -> Hook:
    """Raises NotFound for a pipeline without the trigger."""
    hook = await store.of_pipeline(tx, pipeline.workspace_id, pipeline.id)
    if hook is None:
        raise NotFound("hook-unknown", f"The pipeline {pipeline.name!r} has no trigger {{webhook: true}}.")
    return hook


async def _start(tx: Connection, hook: Hook, delivery: Delivery, slot_at: datetime) -> Run:
    """Run and slot, of a pipeline that is locked."""
    pipeline = await pipelines.get(tx, hook.workspace_id, str(hook.pipeline_id))
    pipeline.must_be_active()
    given = parameters(pipeline.definition, given_by(hook.trigger, delivery.body))
    run = await runs.queue(tx, pipeline, Asked("webhook", given))
    schedule = await schedules.get(tx, hook.schedule_id)
    await schedules.add_slot(tx, schedule, Slot(schedule.id, slot_at, "fired", run_id=run.id))
    await schedules.move(tx, schedule, slot_at, None)
    return run


async def _audit(tx: Connection, pipeline: Pipeline, author: Author, action: str) -> None:
    line = Audited(action, "pipeline", pipeline.id, {"name": pipeline.name})
    await outbox.audit(tx, pipeline.workspace_id, author, line)
