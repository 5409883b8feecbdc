"""postgres: TLS is asked for and verified as far as sslmode says, for reading and for loading."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres import check
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import PostgresSource
from tests.certificates import Certificates, PostgresFront, make_certificates, postgres_front

SEEDED = ReadRequest(stream="public.seeded")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "own")


@pytest.fixture
async def front(certificates: Certificates, empty_database_url: str) -> AsyncIterator[PostgresFront]:
    db = await asyncpg.connect(empty_database_url)
    await db.execute("CREATE TABLE seeded AS SELECT generate_series(1, 3)::bigint AS id")
    await db.close()
    async with postgres_front(certificates, urlsplit(empty_database_url).port or 0) as front:
        yield front


def configured(url: str, port: int, **more: Any) -> PostgresConfig:
    parts = urlsplit(url)
    given = {
        "host": "localhost",
        "port": port,
        "user": parts.username,
        "password": parts.password,
        "database": parts.path.strip("/"),
    }
    return PostgresConfig.model_validate({**given, **more})


async def copied(config: PostgresConfig, context: Context) -> int:
    """Rows read over the one driver and loaded over the other."""
    origin, held = PostgresSource(config, context), PostgresDestination(config, context)
    try:
        load = LoadRequest(new_id(), new_id(), "public.held", WriteKind.APPEND, 1)
        await held.prepare(load, await origin.schema(SEEDED))
        await held.begin(load)
        async for batch in origin.read(SEEDED):
            await held.write(batch.rows)
        return (await held.commit({})).rows
    finally:
        await origin.close()
        await held.close()


@pytest.mark.parametrize("sslmode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_rows_are_read_and_loaded_over_tls(
    front: PostgresFront, empty_database_url: str, context: Context, sslmode: str
) -> None:
    ca = {"sslrootcert": front.certificates.authority.read_text()} if sslmode.startswith("verify") else {}
    config = configured(empty_database_url, front.port, sslmode=sslmode, **ca)
    checks = [one async for one in check(config, context)]
    assert [one.ok for one in checks] == [True] * 6, checks
    before = front.encrypted
    assert await copied(config, context) == 3
    assert front.encrypted >= before + 2  # the front takes nothing else, and both drivers came


@pytest.mark.parametrize("wrong", ["another authority", "no authority that is known", "another name"])
async def test_a_server_that_cannot_prove_itself_is_refused_and_said_why(
    front: PostgresFront, empty_database_url: str, context: Context, tmp_path: Path,
    wrong: str,
) -> None:  # fmt: skip
    more: dict[str, Any] = {"sslmode": "verify-full"}
    if wrong == "another authority":
        more["sslrootcert"] = make_certificates(tmp_path / "other").authority.read_text()
    elif wrong == "another name":
        more |= {"sslrootcert": front.certificates.authority.read_text(), "host": "127.0.0.1"}
    config = configured(empty_database_url, front.port, **more)
    with pytest.raises(Invalid, match="certificate verify failed") as caught:
        await copied(config, context)
    assert caught.value.code == "connector-tls-failed"
    *_, last = [one async for one in check(config, context)]
    assert (last.name, last.ok, last.code) == ("log in", False, "connector-tls-failed")


async def test_with_verify_ca_the_name_does_not_count(
    front: PostgresFront, empty_database_url: str, context: Context
) -> None:
    ca = front.certificates.authority.read_text()
    config = configured(empty_database_url, front.port, sslmode="verify-ca", sslrootcert=ca, host="127.0.0.1")
    assert await copied(config, context) == 3


async def test_a_server_without_tls_is_refused_where_it_is_required(empty_database_url: str, context: Context) -> None:
    config = configured(empty_database_url, urlsplit(empty_database_url).port or 0, sslmode="require")
    with pytest.raises(Invalid, match="TLS") as caught:
        await copied(config, context)
    assert caught.value.code == "connector-tls-failed"
