"""Secrets are sealed anew with another SECRET_KEY: all of them, once, also when the command is killed at it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from dataaggregator.composition import compose
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.installed import installed_services
from dataaggregator.resealing import BATCH, Resealed, Sealed, reseal
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings
from tests.e2e.api import until

PROGRAM = Path(sys.executable).with_name("dataaggregator")
OLD, NEW = "the-old-key-" * 4, "the-new-key-" * 4
COMMAND_SECONDS = 90
WORKSPACE, CONNECTOR = new_id(), new_id()
OUTDATED = "SELECT count(*) FROM connectors.secrets WHERE substring(sealed FROM 2 FOR 8) <> $1"


@pytest.fixture
def both(settings: Settings) -> Settings:
    """Settings of an installation that goes from the old key to the new one."""
    return settings.model_copy(
        update={"secret_key": SecretStr(NEW), "secret_key_previous": (SecretStr(OLD),), "db_pool_size": 2}
    )


def sealed_of(settings: Settings) -> dict[str, Sealed]:
    """What every service says that it has sealed, by table."""
    ports = compose(settings)
    return {one.table: one for service in installed_services() for one in service.build(ports).sealed}


async def kept(database: Database, sealed: Sealed, count: int, key: str = OLD) -> None:
    """So many secrets of the connector, as somebody with this key has left them."""
    async with database.platform() as tx:
        await tx.execute(
            """INSERT INTO connectors.connectors (id, workspace_id, name, type, version, config, created_at, updated_at)
               VALUES ($1, $2, 'db', 'postgres', 1, '{}', now(), now()) ON CONFLICT DO NOTHING""",
            CONNECTOR,
            WORKSPACE,
        )
        for number in range(count):
            row = {"connector_id": CONNECTOR, "workspace_id": WORKSPACE, "field": f"{key[:7]} {number:04}"}
            aad, purpose = sealed.bound(row)
            secret = KeyRing(key).seal(str(number).encode(), aad=aad, purpose=purpose)
            await tx.execute(
                "INSERT INTO connectors.secrets (connector_id, workspace_id, field, sealed) VALUES ($1, $2, $3, $4)",
                *row.values(),
                secret,
            )


def command(settings: Settings, secret_key: str = NEW, previous: str = OLD) -> subprocess.Popen[str]:
    assert settings.database_url is not None
    given = {
        "PATH": os.environ["PATH"],
        "DATAAGGREGATOR_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "SECRET_KEY": secret_key,
        "SECRET_KEY_PREVIOUS": previous,
    }
    words = [str(PROGRAM), "--json", "secrets", "rotate"]
    return subprocess.Popen(words, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def rotated(settings: Settings, expect: int = 0, **keys: str) -> dict[str, Any]:
    """What the command tells of the connectors' secrets."""
    process = command(settings, **keys)
    told, wrong = await asyncio.to_thread(process.communicate, timeout=COMMAND_SECONDS)
    assert process.returncode == expect, wrong
    found: dict[str, Any] = next(one for one in json.loads(told) if one["table"] == "connectors.secrets")
    return found


async def opened(database: Database, sealed: Sealed, key: str) -> list[str]:
    async with database.platform() as tx:
        rows = [dict(row) for row in await tx.fetch("SELECT * FROM connectors.secrets ORDER BY field")]
    secrets = []
    for row in rows:
        aad, purpose = sealed.bound(row)
        secrets.append(KeyRing(key).open(row["sealed"], aad=aad, purpose=purpose).decode())
    return secrets


async def lines(database: Database) -> list[dict[str, Any]]:
    """What stands in the audit of it."""
    query = "SELECT data FROM connectors.outbox WHERE type = 'audit.entry.v1' ORDER BY position"
    async with database.platform() as tx:
        return [row["data"] for row in await tx.fetch(query)]


async def test_every_column_that_is_sealed_is_sealed_anew(both: Settings, database: Database) -> None:
    query = """SELECT table_schema || '.' || table_name AS found, column_name FROM information_schema.columns
               WHERE column_name LIKE 'sealed%'"""
    async with database.platform() as tx:
        there = {(row["found"], row["column_name"]) for row in await tx.fetch(query)}
    assert {(one.table, one.column) for one in sealed_of(both).values()} == there
    assert len(there) == 5


async def test_all_opens_with_the_new_key_alone_and_a_second_time_changes_nothing(
    both: Settings, database: Database
) -> None:
    sealed, count = sealed_of(both)["connectors.secrets"], BATCH + 5
    await kept(database, sealed, count)
    assert await rotated(both) == {"table": "connectors.secrets", "resealed": count, "unreadable": []}
    assert await opened(database, sealed, NEW) == [str(number) for number in range(count)]
    said = await lines(database)
    assert [(one["action"], one["actor"], one["detail"]) for one in said] == [
        ("secrets.resealed", "operator", {"rows": BATCH}),
        ("secrets.resealed", "operator", {"rows": 5}),
    ]
    assert (await rotated(both))["resealed"] == 0
    assert len(await lines(database)) == 2


async def test_killed_in_the_middle_it_goes_on_where_it_was(
    both: Settings, database: Database, database_url: str
) -> None:
    sealed, count = sealed_of(both)["connectors.secrets"], 3 * BATCH
    await kept(database, sealed, count)
    present = KeyRing(NEW).present_id
    holder = await asyncpg.connect(database_url)
    begun = holder.transaction()
    await begun.start()
    await holder.execute("SELECT FROM connectors.secrets WHERE field LIKE '%0250' FOR UPDATE")  # of the last batch
    process = command(both)

    async def left() -> int:
        async with database.platform() as tx:
            return int(await tx.fetchval(OUTDATED, present))

    async def waits() -> bool | None:
        return True if await left() == BATCH else None

    await until(waits, "two of three batches", COMMAND_SECONDS)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    await begun.rollback()
    await holder.close()
    assert await left() == BATCH
    both_open = KeyRing(NEW, [OLD])
    async with database.platform() as tx:
        assert all(both_open.knows(row["sealed"]) for row in await tx.fetch("SELECT sealed FROM connectors.secrets"))
    assert (await rotated(both))["resealed"] == BATCH
    assert await opened(database, sealed, NEW) == [str(number) for number in range(count)]


async def test_what_no_key_opens_is_named_and_keeps_nothing_else_back(both: Settings, database: Database) -> None:
    sealed = sealed_of(both)["connectors.secrets"]
    await kept(database, sealed, 2, "a-lost-key-" * 4)
    await kept(database, sealed, 2)
    told = await rotated(both, expect=1)
    assert told["resealed"] == 2
    assert told["unreadable"] == [f"{CONNECTOR}, a-lost- {number:04}" for number in range(2)]
    assert (await rotated(both, expect=1))["resealed"] == 0


async def test_without_the_old_key_nothing_is_changed(both: Settings, database: Database) -> None:
    await kept(database, sealed_of(both)["connectors.secrets"], 3)
    told = await rotated(both, expect=1, previous="another-key-" * 4)
    assert (told["resealed"], len(told["unreadable"])) == (0, 3)
    assert await lines(database) == []


async def test_a_secret_that_somebody_saves_meanwhile_stays(
    both: Settings, database: Database, database_url: str
) -> None:
    """Whoever has begun to save is waited for, and what they saved needs nothing any more."""
    sealed = sealed_of(both)["connectors.secrets"]
    await kept(database, sealed, 1)
    saver, watcher = [await asyncpg.connect(database_url) for _ in range(2)]
    begun = saver.transaction()
    await begun.start()
    row = await saver.fetchrow("SELECT * FROM connectors.secrets")
    assert row is not None
    aad, purpose = sealed.bound(dict(row))
    saved = KeyRing(NEW).seal(b"saved meanwhile", aad=aad, purpose=purpose)
    await saver.execute("UPDATE connectors.secrets SET sealed = $1", saved)
    resealing = asyncio.create_task(reseal(database, KeyRing(NEW, [OLD]), "connectors", sealed))

    async def waits() -> bool | None:
        # Within its transaction the saver would see all along what it saw first.
        query = "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%connectors.secrets%'"
        return await watcher.fetchval(query) or None

    await until(waits, "it to come to the row that is being saved")
    await begun.commit()
    await saver.close()
    await watcher.close()
    assert await resealing == Resealed("connectors.secrets", 0, ())
    assert await opened(database, sealed, NEW) == ["saved meanwhile"]
