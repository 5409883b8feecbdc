"""Webhooks, store: all SQL of webhooks and their secrets."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record, UniqueViolationError

from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.definition import Author, key
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.http.paging import PageQuery
from dataaggregator.ids import new_id

from .domain import Webhook, WebhookDefinition

SORTS = Keyset({"name": str, "created_at": datetime, "updated_at": datetime}, default="name")


async def add(
    tx: Connection, workspace: UUID, definition: WebhookDefinition, author: Author, *, about_people: bool
) -> Webhook:
    """Raises Conflict if the name is taken."""
    statement = """
        INSERT INTO gateway.webhooks (id, workspace_id, name, definition, url, types, enabled, about_people, version,
            created_at, updated_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, now(), now(), $9) RETURNING *"""
    try:
        [row] = await tx.fetch(
            statement, new_id(), workspace, *_columns(definition), about_people, author.user_id
        )  # fmt: skip
    except UniqueViolationError:
        raise _taken(definition.name) from None
    return _webhook(row)


async def save(tx: Connection, before: Webhook, definition: WebhookDefinition, *, about_people: bool) -> Webhook:
    """A new version of one that `get` has locked; what was given up is tried again, all that waits at once."""
    statement = """
        UPDATE gateway.webhooks SET name = $3, definition = $4, url = $5, types = $6, enabled = $7, about_people = $8,
            version = version + 1, updated_at = now(), disabled_at = NULL, disabled_reason = NULL,
            rest_until = NULL, failures = 0, failing_since = NULL
        WHERE workspace_id = $1 AND id = $2 RETURNING *"""
    owner = (before.workspace_id, before.id)
    try:
        [row] = await tx.fetch(statement, *owner, *_columns(definition), about_people)
    except UniqueViolationError:
        raise _taken(definition.name) from None
    if before.failing_since is not None:
        await tx.execute(
            """UPDATE gateway.deliveries SET next_at = now()
            WHERE workspace_id = $1 AND webhook_id = $2 AND status = 'pending'""",
            *owner,
        )
    return _webhook(row)


async def get(tx: Connection, workspace: UUID, reference: str, *, lock: bool = False) -> Webhook:
    """By id or name; raises NotFound."""
    column, value = key(reference)
    statement = f"SELECT * FROM gateway.webhooks WHERE workspace_id = $1 AND {column} = $2"
    row = await tx.fetchrow(statement + (" FOR UPDATE" if lock else ""), workspace, value)
    if row is None:
        raise NotFound("webhook-unknown", f"There is no webhook {reference!r} in this workspace.")
    return _webhook(row)


async def list_page(tx: Connection, workspace: UUID, query: PageQuery) -> tuple[Sequence[Webhook], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=1)
    statement = f"SELECT * FROM gateway.webhooks WHERE workspace_id = $1 {part.where}"
    page, cursor = await part.fetch(tx, statement, workspace, limit=query.limit)
    return [_webhook(row) for row in page], cursor


async def remove(tx: Connection, webhook: Webhook) -> None:
    """With its secrets and deliveries."""
    await tx.execute(
        "DELETE FROM gateway.webhooks WHERE workspace_id = $1 AND id = $2", webhook.workspace_id, webhook.id
    )


async def disable(tx: Connection, workspace: UUID, webhook: UUID, reason: str) -> bool:
    """Whether it was not already."""
    statement = """
        UPDATE gateway.webhooks SET disabled_at = now(), disabled_reason = $3
        WHERE workspace_id = $1 AND id = $2 AND disabled_at IS NULL"""
    return await tx.execute(statement, workspace, webhook, reason) == "UPDATE 1"


async def add_secret(tx: Connection, webhook: Webhook, sealed: bytes) -> None:
    await tx.execute(
        """INSERT INTO gateway.webhook_secrets (id, webhook_id, workspace_id, sealed, made_at)
        VALUES ($1, $2, $3, $4, now())""",
        new_id(),
        webhook.id,
        webhook.workspace_id,
        sealed,
    )


async def end_secrets(tx: Connection, webhook: Webhook, seconds: int) -> datetime | None:
    """Those there are, so much later and none later than it would have; when the last one ends. What has ended goes."""
    owner = (webhook.workspace_id, webhook.id, seconds)
    ends = "least(ends_at, now() + make_interval(secs => $3))"
    await tx.execute(
        f"DELETE FROM gateway.webhook_secrets WHERE workspace_id = $1 AND webhook_id = $2 AND {ends} <= now()", *owner
    )
    rows = await tx.fetch(
        f"""UPDATE gateway.webhook_secrets SET ends_at = {ends} WHERE workspace_id = $1 AND webhook_id = $2
        RETURNING ends_at""",
        *owner,
    )
    return max((row["ends_at"] for row in rows), default=None)


def _columns(definition: WebhookDefinition) -> tuple[object, ...]:
    written = definition.model_dump(mode="json", exclude_unset=True)
    return definition.name, written, definition.url, list(definition.types), definition.enabled


def _taken(name: str) -> Conflict:
    return Conflict("already-exists", f"There is already a webhook named {name!r} in this workspace.")


def _webhook(row: Record) -> Webhook:
    return Webhook(
        id=row["id"],
        workspace_id=row["workspace_id"],
        name=row["name"],
        version=row["version"],
        model=WebhookDefinition,
        written=row["definition"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        created_by=row["created_by"],
        failing_since=row["failing_since"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
    )
