"""DATABASE_URL: its sslmode is honoured, and a server that cannot prove itself is refused with what to do."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings
from tests.certificates import Certificates, PostgresFront, make_certificates, postgres_front


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "own")


@pytest.fixture
async def front(certificates: Certificates, database_url: str) -> AsyncIterator[PostgresFront]:
    async with postgres_front(certificates, urlsplit(database_url).port or 0) as front:
        yield front


def through(front: PostgresFront, url: str, query: str, host: str = "localhost") -> str:
    parts = urlsplit(url)
    return f"postgresql://{parts.username}:{parts.password}@{host}:{front.port}{parts.path}?{query}"


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
async def test_the_database_is_reached_over_tls(
    front: PostgresFront, database_url: str, settings: Settings, sslmode: str
) -> None:
    query = f"sslmode={sslmode}" + (f"&sslrootcert={front.certificates.authority}" if sslmode != "require" else "")
    database = Database(through(front, database_url, query), settings)
    await database.open()
    await database.ping()
    await database.close()
    assert front.encrypted > 0


@pytest.mark.parametrize("wrong", ["another authority", "another name"])
async def test_a_database_that_cannot_prove_itself_is_refused(
    front: PostgresFront, database_url: str, settings: Settings, tmp_path: Path, wrong: str
) -> None:
    other = make_certificates(tmp_path / "other")
    ca, host = (
        (other.authority, "localhost") if wrong == "another authority" else (front.certificates.authority, "127.0.0.1")
    )
    database = Database(through(front, database_url, f"sslmode=verify-full&sslrootcert={ca}", host), settings)
    with pytest.raises(Transient, match="certificate verify failed") as caught:
        await database.open()
    assert caught.value.code == "database-tls-failed"
    await database.close()


async def test_a_database_without_tls_is_refused_where_it_is_required(database_url: str, settings: Settings) -> None:
    database = Database(f"{database_url}?sslmode=require", settings)
    with pytest.raises(Transient, match="no TLS") as caught:
        await database.open()
    assert caught.value.code == "database-tls-failed"
    await database.close()
