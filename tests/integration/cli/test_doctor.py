"""doctor against real servers: which they are, and what each one that is missing or behind is called."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from dataaggregator.cli.doctor import servers
from dataaggregator.cli.doctor.finding import Finding
from dataaggregator.clock import SystemClock
from deploy.local.rabbitmq import Broker

NOBODY = "127.0.0.1:9"


async def listed(findings: AsyncIterator[Finding]) -> dict[str, Finding]:
    return {one.name: one async for one in findings}


def codes(found: dict[str, Finding]) -> dict[str, tuple[str, str | None]]:
    return {name: (one.status, one.help and one.help.rpartition("#")[2]) for name, one in found.items()}


async def test_a_database_tells_its_version_its_clock_and_what_its_schemas_lack(
    database_url: str, empty_database_url: str
) -> None:
    found = await listed(servers.database(database_url, SystemClock()))
    assert codes(found) == {"database": ("ok", None), "clock": ("ok", None), "migrations": ("ok", None)}
    assert "PostgreSQL 1" in found["database"].detail
    empty = await listed(servers.database(empty_database_url, SystemClock()))
    assert codes(empty)["migrations"] == ("fail", "database-not-migrated")
    assert "executor" in empty["migrations"].detail


async def test_a_database_that_is_too_old_is_named(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "OLDEST_POSTGRES", 990_000)
    found = await listed(servers.database(empty_database_url, SystemClock()))
    assert codes(found)["database"] == ("fail", "server-too-old")


async def test_servers_that_answer_tell_their_version(rabbit_server: Broker, redis_url: str) -> None:
    bus, limits = await servers.bus(rabbit_server.url("/")), await servers.limits(redis_url)
    assert (bus.status, limits.status) == ("ok", "ok")
    for found in (bus, limits):
        assert any(character.isdigit() for character in found.detail)


async def test_servers_that_are_not_there_are_named_with_their_cure_and_without_their_secrets() -> None:
    secret = "canary"
    found = await listed(servers.database(f"postgresql://u:{secret}@{NOBODY}/d", SystemClock()))
    found |= await listed(servers.platform(f"http://{NOBODY}"))
    for one in (
        await servers.bus(f"amqp://u:{secret}@{NOBODY}/"),
        await servers.limits(f"redis://u:{secret}@{NOBODY}"),
    ):
        found[one.name] = one
    assert codes(found) == {
        "database": ("fail", "database-unavailable"),
        "platform": ("fail", "service-unavailable"),
        "bus": ("fail", "bus-unavailable"),
        "limits": ("fail", "limits-unavailable"),
    }
    assert secret not in str(found)


@pytest.mark.parametrize(("database", "ends"), [("ours", 0), ("nobody's", 1)])
def test_the_command_exits_1_when_anything_fails(database_url: str, tmp_path: Path, database: str, ends: int) -> None:
    url = database_url if database == "ours" else f"postgresql://u@{NOBODY}/d"
    environment = {"PATH": os.environ["PATH"], "DATAAGGREGATOR_HOME": str(tmp_path), "GATEWAY_PORT": "0"}
    command = [str(Path(sys.executable).with_name("dataaggregator")), "--json", "doctor"]
    done = subprocess.run(
        command, env=environment | {"DATABASE_URL": url, "SECRET_KEY": "k" * 32}, capture_output=True, check=False
    )
    told = orjson.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (ends, not ends), told
    assert {one["status"] for one in told["checks"]} <= {"ok", "warn", "fail"}
    assert {"python", "settings", "kernel", "disk", "port", "database"} <= {one["name"] for one in told["checks"]}
