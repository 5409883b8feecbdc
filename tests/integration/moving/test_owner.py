"""Who may move an installation: the owner of its tables, and whoever was made one; others are told what is missing."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from dataaggregator.errors import Conflict, Permanent
from dataaggregator.moving import tables
from dataaggregator.moving.installation import pack, unpack
from dataaggregator.secrets import KeyRing
from tests.sql import execute

KEYS = KeyRing("only-for-tests-only-for-tests-only-for-tests")


@pytest.fixture
async def mover(database_url: str) -> AsyncIterator[str]:
    """The database as a user sees it who owns nothing in it."""
    name, password = f"mover_{secrets.token_hex(4)}", secrets.token_hex(8)
    await execute(database_url, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    parts = urlsplit(database_url)
    yield urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}"))
    await execute(database_url, f"DROP ROLE {name}")


@pytest.fixture
async def archive(database_url: str, tmp_path: Path) -> Path:
    target = tmp_path / "installation.archive"
    await pack(database_url, tmp_path, KEYS, target)
    return target


async def test_who_does_not_own_the_tables_is_told_what_is_missing_and_changes_nothing(
    database_url: str, mover: str, archive: Path, tmp_path: Path
) -> None:
    home, user, owner = tmp_path / "home", urlsplit(mover).username, urlsplit(database_url).username
    with pytest.raises(Permanent, match=f'GRANT "{owner}" TO "{user}"') as refused:
        await unpack(mover, home, KEYS, archive)
    assert refused.value.code == "database-not-owner"
    assert list(home.iterdir()) == []
    with pytest.raises(Permanent, match="is not the owner"):
        await pack(mover, home, KEYS, home / "again.archive")
    assert list(home.iterdir()) == []


async def test_who_was_made_an_owner_moves_it_and_not_while_the_services_run(
    database_url: str, mover: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ALONE_SECONDS", 0.2)
    await execute(database_url, f'GRANT "{urlsplit(database_url).username}" TO {urlsplit(mover).username}')
    service = await asyncpg.connect(database_url)
    with pytest.raises(Conflict, match="stop all services") as running:
        await unpack(mover, tmp_path / "home", KEYS, archive)
    assert running.value.code == "installation-running"
    await service.close()
    monkeypatch.undo()
    assert (await unpack(mover, tmp_path / "home", KEYS, archive)).tables > 30
