"""Transformations, store: all SQL of saved transformations, their versions and their uses."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from asyncpg import Record, UniqueViolationError

from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.db.pages import NO_LIMIT, fetch_page
from dataaggregator.definition import Author, Saved, key
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.http.paging import PageQuery

SORTS = Keyset({"name": str, "created_at": datetime, "updated_at": datetime}, default="name")

SavedTransformation = Saved[TransformationDefinition]


async def add(
    tx: Connection, workspace: UUID, id_: UUID, definition: TransformationDefinition, author: Author
) -> SavedTransformation:
    """The first version; raises Conflict if the name is taken."""
    statement = """
        INSERT INTO scheduler.transformations
            (id, workspace_id, name, version, definition, created_at, updated_at, created_by)
        VALUES ($1, $2, $3, 1, $4, now(), now(), $5) RETURNING *"""
    written = definition.model_dump(mode="json", exclude_unset=True)
    try:
        [row] = await tx.fetch(statement, id_, workspace, definition.name, written, author.user_id)
    except UniqueViolationError:
        raise _taken(definition.name) from None
    saved = _saved(row)
    await _keep_version(tx, saved, author)
    return saved


async def save(
    tx: Connection, saved: SavedTransformation, definition: TransformationDefinition, author: Author
) -> SavedTransformation:
    """A new version of a transformation that `get` has locked."""
    statement = """
        UPDATE scheduler.transformations SET name = $3, definition = $4, version = version + 1, updated_at = now()
        WHERE workspace_id = $1 AND id = $2 RETURNING *"""
    written = definition.model_dump(mode="json", exclude_unset=True)
    try:
        [row] = await tx.fetch(statement, saved.workspace_id, saved.id, definition.name, written)
    except UniqueViolationError:
        raise _taken(definition.name) from None
    after = _saved(row)
    await _keep_version(tx, after, author)
    return after


async def get(tx: Connection, workspace: UUID, reference: str, *, lock: bool = False) -> SavedTransformation:
    """By id or name; raises NotFound."""
    column, value = key(reference)
    statement = f"SELECT * FROM scheduler.transformations WHERE workspace_id = $1 AND {column} = $2"
    row = await tx.fetchrow(statement + (" FOR UPDATE" if lock else ""), workspace, value)
    if row is None:
        raise NotFound("transformation-unknown", f"There is no transformation {reference!r} in this workspace.")
    return _saved(row)


async def named(
    tx: Connection, workspace: UUID, names: Collection[str], *, lock: Literal["FOR SHARE", "FOR UPDATE"] = "FOR SHARE"
) -> dict[str, SavedTransformation]:
    """Those of these names there are, held as they are until the transaction ends."""
    if not names:
        return {}
    statement = f"""
        SELECT * FROM scheduler.transformations WHERE workspace_id = $1 AND name = ANY($2)
        ORDER BY id {lock}"""
    return {row["name"]: _saved(row) for row in await tx.fetch(statement, workspace, list(names))}


async def list_at_once(
    tx: Connection, workspace: UUID, names: Sequence[str] | None
) -> tuple[Sequence[SavedTransformation], bool]:
    """Those of these names (None: all) as far as they fit into PAGE_BYTES, and whether there are more."""
    statement = """
        SELECT * FROM scheduler.transformations
        WHERE workspace_id = $1 AND ($2::text[] IS NULL OR name = ANY($2))"""
    page = await fetch_page(tx, statement, "name", workspace, names, limit=NO_LIMIT)
    return [_saved(row) for row in page.rows], page.more


async def list_page(
    tx: Connection, workspace: UUID, query: PageQuery
) -> tuple[Sequence[SavedTransformation], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=1)
    statement = f"SELECT * FROM scheduler.transformations WHERE workspace_id = $1 {part.where}"
    rows, cursor = await part.fetch(tx, statement, workspace, limit=query.limit)
    return [_saved(row) for row in rows], cursor


async def remove(tx: Connection, saved: SavedTransformation) -> None:
    statement = "DELETE FROM scheduler.transformations WHERE workspace_id = $1 AND id = $2"
    await tx.execute(statement, saved.workspace_id, saved.id)


async def used_by(tx: Connection, saved: SavedTransformation) -> Sequence[str]:
    """The names of the pipelines that use it."""
    statement = """
        SELECT p.name FROM scheduler.transformation_uses u JOIN scheduler.pipelines p ON p.id = u.pipeline_id
        WHERE u.workspace_id = $1 AND u.transformation_id = $2 ORDER BY p.name"""
    return [row["name"] for row in await tx.fetch(statement, saved.workspace_id, saved.id)]


async def _keep_version(tx: Connection, saved: SavedTransformation, author: Author) -> None:
    statement = """
        INSERT INTO scheduler.transformation_versions
            (transformation_id, version, workspace_id, definition, created_at, created_by)
        SELECT id, version, workspace_id, definition, updated_at, $3 FROM scheduler.transformations
        WHERE workspace_id = $1 AND id = $2"""
    await tx.execute(statement, saved.workspace_id, saved.id, author.user_id)


def _taken(name: str) -> Conflict:
    return Conflict("already-exists", f"There is already a transformation named {name!r} in this workspace.")


def _saved(row: Record) -> SavedTransformation:
    return Saved(
        row["id"],
        row["workspace_id"],
        row["name"],
        row["version"],
        TransformationDefinition,
        row["definition"],
        row["created_at"],
        row["updated_at"],
        row["created_by"],
    )
