"""A whole installation, stopped: packed into an archive, and unpacked where nothing is yet; whole or not at all."""

import importlib.metadata
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from dataaggregator.db import migrate
from dataaggregator.db.connection import Connection
from dataaggregator.errors import Conflict, Invalid, Permanent
from dataaggregator.installed import installed_services
from dataaggregator.moving.archive import ArchiveReader, ArchiveWriter, Head
from dataaggregator.moving.folders import Arriving, files
from dataaggregator.moving.tables import Table, copy_in, copy_out, held, list_sequences, must_own, set_sequence
from dataaggregator.secrets import KeyRing


@dataclass(frozen=True)
class Moved:
    """What is in an archive; `key_outdated`: it was sealed with an earlier SECRET_KEY."""

    made_at: str
    version: str
    tables: int
    rows: int
    files: int
    key_outdated: bool = False


async def pack(url: str, home: Path, keys: KeyRing, target: Path) -> Moved:
    """Write the archive beside its place and put it there when it is whole."""
    draft = target.with_name(f".{target.name}.draft")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            packed = await _pack(url, home, ArchiveWriter(file, keys))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)
    except OSError as error:
        _drop(draft)
        raise Permanent("folder-not-writable", f"{target} could not be written: {error.strerror}.") from error
    except BaseException:
        _drop(draft)
        raise
    return packed


async def unpack(url: str, home: Path, keys: KeyRing, source: Path) -> Moved:
    """Everything, in one transaction, or nothing."""
    with source.open("rb") as file:
        arriving = Arriving(home)
        try:
            return await _unpack(url, file, keys, arriving)
        finally:
            arriving.drop()


async def _pack(url: str, home: Path, writer: ArchiveWriter) -> Moved:
    schemas = await _at_head(url)
    version, made_at = importlib.metadata.version("dataaggregator"), datetime.now(UTC).isoformat(timespec="seconds")
    writer.head({"part": "manifest", "version": version, "made_at": made_at, "schemas": schemas})
    counts: Counter[str] = Counter()
    async with held(url, list(schemas)) as (connection, tables):
        for table in tables:
            writer.head({"part": "table", "title": table.title, "columns": table.columns})
            counts[table.title] = await copy_out(connection, table, writer.data)
        writer.head({"part": "sequences", "sequences": await list_sequences(connection, list(schemas))})
    total = 0
    for head, chunks in files(home):
        writer.head({"part": "file", **head})
        for chunk in chunks:
            writer.data(chunk)
        total += 1
    writer.head({"part": "totals", "rows": counts, "files": total})
    writer.end()
    return Moved(made_at, version, len(tables), counts.total(), total)


async def _unpack(url: str, file: BinaryIO, keys: KeyRing, arriving: Arriving) -> Moved:
    reader = ArchiveReader(file, keys)
    parts = reader.parts()
    manifest = _manifest(parts)
    _same_schemas(manifest, await _at_head(url))
    counts: Counter[str] = Counter()
    total = 0
    async with held(url, list(manifest["schemas"])) as (connection, tables):
        await _empty(connection, tables)
        for head, chunks in parts:
            match head["part"]:
                case "table":
                    table = _table(tables, head)
                    counts[table.title] = await copy_in(connection, table, chunks)
                case "sequences":
                    for sequence in head["sequences"]:
                        await set_sequence(connection, sequence)
                case "file":
                    arriving.put(head, chunks)
                    total += 1
                case "totals" if (head["rows"], head["files"]) != (dict(counts), total):
                    raise Permanent("archive-damaged", "Not all rows and files of the archive have arrived.")
        arriving.settle()
    return Moved(manifest["made_at"], manifest["version"], len(tables), counts.total(), total, reader.outdated)


async def _at_head(url: str) -> dict[str, str]:
    """The revision of each schema; raises Conflict where one is not the newest that this program knows, and before that
    Permanent where its tables are somebody else's."""
    found: dict[str, str] = {}
    services = installed_services()
    await must_own(url, [service.name for service in services])
    for service in services:
        if service.migrations is not None:
            found[service.name] = migrate.head(service.migrations)
            if not await migrate.check(url, service.name, service.migrations):
                detail = f"The schema {service.name} is not at {found[service.name]}: run `dataaggregator db upgrade`."
                raise Conflict("database-not-migrated", detail)
    return found


def _manifest(parts: Iterator[tuple[Head, Iterator[bytes]]]) -> Head:
    manifest, _ = next(parts)
    return manifest


def _same_schemas(manifest: Head, here: dict[str, str]) -> None:
    there = manifest["schemas"]
    if there != here:
        apart = [f"{name} {there.get(name, '-')} there, {here.get(name, '-')} here" for name in sorted({*there, *here})
                 if there.get(name) != here.get(name)]  # fmt: skip
        raise Conflict(
            "archive-other-version",
            f"The archive is of version {manifest['version']}, whose schemas differ: {'; '.join(apart)}. Bring both"
            " installations to one version, and export again.",
        )


async def _empty(connection: Connection, tables: Sequence[Table]) -> None:
    """Nobody's rows are written over. What belongs to no workspace was made by a migration or a first start."""
    for table in tables:
        if table.of_workspaces and await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table.sql})"):
            raise Conflict(
                "installation-not-empty",
                f"There are rows in {table.title} already: import into a database that no service was started on,"
                " with nothing done but `dataaggregator db upgrade`.",
            )
    for table in reversed(tables):
        if not table.of_workspaces:
            await connection.execute(f"DELETE FROM {table.sql}")


def _table(tables: Sequence[Table], head: Head) -> Table:
    for table in tables:
        if table.title == head["title"] and list(table.columns) == head["columns"]:
            return table
    raise Invalid("archive-damaged", f"The archive has a table {head['title']} that this installation does not have.")


def _drop(draft: Path) -> None:
    with suppress(OSError):
        draft.unlink()
