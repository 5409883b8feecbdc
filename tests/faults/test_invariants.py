"""The invariants see what they are there to see: each turns red when what it watches over is broken."""

import asyncio
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import asyncpg
import pytest

from dataaggregator.bus import EmbeddedBus
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.faults import invariants
from tests.faults.invariants import Bus, Connection, Copied, Healed, events, leftovers, runs
from tests.integration.bus.rig import CONNECTOR_MESSAGES, LISTENER, ORDERLY, OTHER_MESSAGES, Rig, make_schemas

TYPES = [message.event_type for message in CONNECTOR_MESSAGES]
BUS = Bus(
    handled={LISTENER: [*TYPES, *(message.event_type for message in OTHER_MESSAGES)], ORDERLY: TYPES},
    effects={LISTENER: "listener.effects", ORDERLY: "orderly.effects"},
)
APPLIED = "workspace_id, event_id, type, subject, sequence"
SLOT = "schedule_id, workspace_id, pipeline_id, outcome, run_id, decided_at"
TO_PARK = "id, workspace_id, source, subject, sequence, '{}', 1, 'code', 'reason', type"
TWICE = "I3: applied more than once by listener: 6"
BOTH = "I3: applied by listener and set aside as well: 6"
PARKED = "event_id, workspace_id, source, subject, sequence, event, tries, code, reason, type"
SECRET = 'pa"ss/wörd +canary?'
SHOWN = {
    "raw": SECRET,
    "url": quote(SECRET, safe=""),
    "json": 'pa\\"ss/wörd +canary?',
    "hex": SECRET.encode().hex(),
    **{f"base64-{n}": b64encode(b"x" * n + SECRET.encode() + b"after").decode() for n in range(4)},
}


@pytest.fixture
async def spoken(database_url: str, database: Database, settings: Settings) -> None:
    """Three small services, in which six events about two subjects were said and applied."""
    await make_schemas(database_url)
    rig = Rig(database, EmbeddedBus(database, settings))
    rig.subscribe()
    rig.start()
    await rig.say("one", times=4)
    await rig.say("two", times=2)
    await rig.settled()
    await rig.stop()


@pytest.mark.usefixtures("spoken")
class TestEvents:
    async def test_all_is_well(self, connection: Connection) -> None:
        await invariants.check_events(connection, BUS)
        await invariants.check_versions(connection)
        await invariants.check_order(connection, "orderly.effects")

    @pytest.mark.parametrize(
        ("harm", "seen"),
        [
            (
                "DELETE FROM listener.inbox WHERE sequence = 2",
                r"I3: still on their way: \[\(.listener., .never reached it., 2\)",
            ),
            ("DELETE FROM speaker.outbox WHERE sequence = 4", "I3: applied by listener, which nobody said: 1"),
            ("DELETE FROM orderly.effects WHERE sequence = 4", "I3: inbox and effects of orderly differ: 1"),
            (f"INSERT INTO listener.effects ({APPLIED}) SELECT {APPLIED} FROM listener.effects", TWICE),
            (f"INSERT INTO listener.parked ({PARKED}) SELECT {TO_PARK} FROM speaker.outbox", BOTH),
        ],
    )
    async def test_harm_is_seen(self, connection: Connection, harm: str, seen: str) -> None:
        await connection.execute(harm)
        with pytest.raises(AssertionError, match=seen):
            await invariants.check_events(connection, BUS, within_seconds=1.0)

    @pytest.mark.parametrize(
        ("harm", "seen"),
        [
            ("UPDATE speaker.subject_sequences SET last_sequence = 9", "I4: holes in what speaker says: 2"),
            ("UPDATE orderly.subject_positions SET last_sequence = 9", "I4: holes in what orderly heard: 2"),
        ],
    )
    async def test_holes_are_seen(self, connection: Connection, harm: str, seen: str) -> None:
        await connection.execute(harm)
        with pytest.raises(AssertionError, match=seen):
            await invariants.check_versions(connection)

    async def test_what_never_arrives_is_seen(self, connection: Connection) -> None:
        await connection.execute("UPDATE speaker.outbox SET published_at = NULL WHERE sequence = 1")
        with pytest.raises(AssertionError, match=r"I3: still on their way: \[\('speaker', 'outbox', 2\)\]"):
            await events.settled(connection, BUS, within_seconds=0.2)

    async def test_effects_out_of_order_are_seen(self, connection: Connection) -> None:
        await connection.execute("UPDATE orderly.effects SET sequence = 5 - sequence WHERE subject = 'one'")
        with pytest.raises(AssertionError, match="I4: out of order"):
            await invariants.check_order(connection, "orderly.effects")


PIPELINE = """
    INSERT INTO scheduler.pipelines (id, workspace_id, name, version, definition, status, active_since, created_at,
        updated_at) VALUES (gen_random_uuid(), gen_random_uuid(), 'p', 1, '{}', 'active', now(), now(), now());
    INSERT INTO scheduler.schedules (id, workspace_id, pipeline_id, fingerprint, trigger, anchor_at, last_slot_at)
        SELECT gen_random_uuid(), workspace_id, id, 'f', '{}', now(), '2026-01-01' FROM scheduler.pipelines;
    INSERT INTO scheduler.runs (id, workspace_id, pipeline_id, pipeline_name, pipeline_version, trigger, parameters,
        full_refresh, definition, status, queued_at, handed_over_at, finished_at)
        SELECT gen_random_uuid(), workspace_id, id, 'p', 1, 'cron', '{}', false, '{}', 'succeeded', now(), now(), now()
        FROM scheduler.pipelines;
    INSERT INTO scheduler.slots (schedule_id, slot_at, workspace_id, pipeline_id, outcome, run_id, decided_at)
        SELECT s.id, '2026-01-01', s.workspace_id, s.pipeline_id, 'fired', r.id, now()
        FROM scheduler.schedules s, scheduler.runs r;
    INSERT INTO executor.runs (run_id, workspace_id, pipeline_id, pipeline_name, asked, status, queued_at, finished_at)
        SELECT id, workspace_id, pipeline_id, 'p', '{}', status, now(), now() FROM scheduler.runs"""


class TestRuns:
    @pytest.fixture(autouse=True)
    async def scheduled(self, connection: Connection) -> None:
        """A pipeline whose one slot fired a run that succeeded."""
        await connection.execute(PIPELINE)

    async def test_all_is_well(self, connection: Connection) -> None:
        await invariants.check_slots(connection)
        await invariants.check_mirrors(connection)
        await invariants.check_runs_end(connection)

    @pytest.mark.parametrize(
        "harm",
        [
            "DELETE FROM scheduler.slots",
            "UPDATE scheduler.slots SET slot_at = slot_at + interval '1 hour'",
            "DELETE FROM scheduler.runs",
            "UPDATE scheduler.runs SET trigger = 'manual'",
            f"INSERT INTO scheduler.slots ({SLOT}, slot_at) SELECT {SLOT}, now() FROM scheduler.slots",
        ],
    )
    async def test_slots_that_do_not_match_their_runs_are_seen(self, connection: Connection, harm: str) -> None:
        await connection.execute(harm)
        with pytest.raises(AssertionError, match="I5"):
            await invariants.check_slots(connection)

    async def test_a_mirror_that_shows_something_else_is_seen(self, connection: Connection) -> None:
        await connection.execute("UPDATE executor.runs SET status = 'failed'")
        with pytest.raises(AssertionError, match="I3: runs of the scheduler and of the executor differ"):
            await invariants.check_mirrors(connection)

    async def test_a_stuck_run_is_seen(self, connection: Connection) -> None:
        await connection.execute("UPDATE executor.runs SET status = 'queued', finished_at = NULL")
        with pytest.raises(AssertionError, match="I7: stuck"):
            await runs.check_runs_end(connection, within_seconds=0.2)


GOOD = '{"balanced": true, "edges": [{"handed_over": 2, "taken": 2}], "stages": [], "receipts": []}'
WON = f"""
    UPDATE executor.runs SET lease_epoch = 2;
    INSERT INTO executor.attempts (run_id, workspace_id, lease_epoch, number, executor, started_at, ended, ledger)
        SELECT run_id, workspace_id, 1, 1, 'a', now(), 'lost', NULL::json FROM executor.runs UNION ALL
        SELECT run_id, workspace_id, 2, 2, 'b', now(), 'succeeded', '{GOOD}' FROM executor.runs"""
ORPHAN = ("-c", "import time; time.sleep(60)", "dataaggregator.dataplane")


class TestCheck:
    """The one check that every row ends with, on a whole platform in which a run has copied a file."""

    @pytest.fixture
    async def healed(self, connection: Connection, tmp_path: Path) -> Healed:
        await connection.execute(PIPELINE + ";" + WON)
        for name in ("in.csv", "out.csv", "some.log"):
            (tmp_path / name).write_text("id\n1\n2\n")
        copied = [Copied(tmp_path / "in.csv", tmp_path / "out.csv")]
        logs = [tmp_path / "some.log"]
        return Healed(
            "the whole platform", connection, warehouse=connection, copied=copied, home=tmp_path, secrets=[SECRET],
            files=logs,
        )  # fmt: skip

    async def test_all_is_well(self, healed: Healed) -> None:
        before = len(invariants.checked)
        await invariants.check(healed)
        assert invariants.checked[before:] == ["the whole platform"]

    @pytest.mark.parametrize(
        ("harm", "seen"),
        [
            ("UPDATE executor.runs SET status = 'failed'", "I3: runs of the scheduler"),
            ("INSERT INTO scheduler.subject_sequences VALUES ('s', 'p', gen_random_uuid(), 1)", "I4: holes in what"),
            ("DELETE FROM scheduler.slots", "I5"),
            ("UPDATE executor.attempts SET ledger = replace(ledger::text, '2}', '3}')::json", "I2"),
            ("UPDATE executor.attempts SET ended = 'succeeded'", "I6"),
            ("UPDATE executor.attempts SET ended = 'lost'", "I6"),
            ("UPDATE executor.attempts SET lease_epoch = 3 WHERE number = 1", "I6"),
            (f"CREATE TABLE gateway.leak AS SELECT '{SECRET}' AS kept", "I9"),
            ("CREATE TABLE public._dataaggregator_stage_1 (id int)", "I10: staging left behind"),
        ],
    )
    async def test_harm_in_the_database_is_seen(self, healed: Healed, harm: str, seen: str) -> None:
        await healed.connection.execute(harm)
        with pytest.raises(AssertionError, match=seen):
            await invariants.check(healed)

    @pytest.mark.parametrize(
        ("name", "content", "seen"),
        [
            ("out.csv", "id\n1\n2\n2\n", "I1: .* too many"),
            ("out.csv", "id\n1\n", "I1: .* lacks"),
            ("some.log", f"password={SECRET}", "I9"),
        ],
    )
    async def test_harm_in_a_file_is_seen(self, healed: Healed, name: str, content: str, seen: str) -> None:
        assert healed.home is not None
        (healed.home / name).write_text(content)
        with pytest.raises(AssertionError, match=seen):
            await invariants.check(healed)

    async def test_a_run_process_that_nobody_owns_is_seen(
        self, healed: Healed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftovers, "GONE_WITHIN_SECONDS", 0.2)
        orphan = await asyncio.create_subprocess_exec(sys.executable, *ORPHAN, cwd=healed.home)
        with pytest.raises(AssertionError, match=rf"I10: processes \[{orphan.pid}\]"):
            await invariants.check(healed)
        orphan.kill()
        await orphan.wait()
        await invariants.check(healed)

    async def test_a_transaction_that_nobody_ends_is_seen(
        self, healed: Healed, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftovers, "GONE_WITHIN_SECONDS", 0.2)
        other = await asyncpg.connect(database_url)
        await other.execute("BEGIN")
        with pytest.raises(AssertionError, match=r"I10: .*idle in transaction"):
            await invariants.check(healed)
        await other.close()

    @pytest.mark.parametrize("lacking", [{"copied": ()}, {"secrets": ()}, {"home": None}])
    async def test_a_row_that_does_not_say_where_to_look_is_refused(
        self, healed: Healed, lacking: dict[str, Any]
    ) -> None:
        with pytest.raises(AssertionError):
            await invariants.check(replace(healed, **lacking))


def test_what_cannot_apply_is_an_invariant_and_has_a_reason() -> None:
    for made_of, reasons in invariants.CANNOT.items():
        assert set(reasons) < set(invariants.CHECKS), made_of
        assert all(reasons.values()), made_of
    assert invariants.CANNOT["the whole platform"] == {}


def test_modules_that_are_no_rows_are_there() -> None:
    assert all(Path(__file__).with_name(f"{name}.py").exists() for name in invariants.NO_ROWS)


class TestCanaries:
    async def test_a_secret_is_found_in_any_encoding(self, connection: Connection, tmp_path: Path) -> None:
        for name, shown in SHOWN.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "some.log").write_text(f"before {shown} after")
        await invariants.check_canaries(connection, ["another one"], [tmp_path])
        with pytest.raises(AssertionError, match="I9") as red:
            await invariants.check_canaries(connection, [SECRET], [tmp_path])
        assert [name for name in SHOWN if f"{name}/some.log" not in str(red.value)] == []

    @pytest.mark.parametrize("column", ["text", "json", "bytea"])
    async def test_a_secret_is_found_in_a_table(self, connection: Connection, column: str) -> None:
        await connection.execute(f"CREATE TABLE gateway.leak (kept {column})")
        value = {"text": "'x' || $1", "json": "to_json($1::text)", "bytea": "convert_to($1, 'UTF8')"}[column]
        await connection.execute(f"INSERT INTO gateway.leak SELECT {value}", SECRET)
        with pytest.raises(AssertionError, match=r"I9: .*gateway\.leak"):
            await invariants.check_canaries(connection, [SECRET])

    async def test_a_secret_is_found_in_a_command_line(self, connection: Connection) -> None:
        process = await asyncio.create_subprocess_exec("sleep", "60", env={}, executable="/bin/sleep")
        await invariants.check_canaries(connection, [SECRET], platform_pid=process.pid)
        with pytest.raises(AssertionError, match=r"I9: .*command line"):
            await invariants.check_canaries(connection, ["60"], platform_pid=process.pid)
        process.kill()
        await process.wait()


async def test_a_delivery_that_nobody_acknowledges_is_seen(
    rabbitmq_url: str, rabbit_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    vhost = rabbitmq_url.rpartition("/")[2]
    monkeypatch.setattr(events, "HELD_AT_MOST_SECONDS", 4.0)
    async with await aio_pika.connect(rabbitmq_url) as wire:
        channel = await wire.channel()
        queue = await channel.declare_queue("orders", durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"held"), routing_key="orders")
        message = await queue.get()
        with pytest.raises(AssertionError, match=r"I8: not acknowledged: {'orders': 1}"):
            await invariants.check_deliveries(rabbit_server, vhost)
        await message.ack()
        await invariants.check_deliveries(rabbit_server, vhost)
