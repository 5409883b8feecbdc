"""What a run process tells: it arrives whatever is in its texts, and only these are redacted."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.run import RunError
from dataaggregator.contracts.secret import MASK
from dataaggregator.dataplane.job import (
    Answered,
    CursorCommitted,
    Finished,
    LogLine,
    RunOutcome,
    SchemaChange,
    read_frame,
)
from dataaggregator.dataplane.redaction import Redaction
from dataaggregator.dataplane.report import Reporter
from dataaggregator.dataplane.wire import LIMIT_BYTES, Wire

OUTCOME: dict[str, Any] = {
    "status": "succeeded",
    "ledger": {"run_id": str(UUID(int=1)), "balanced": True},
    "cursors": [
        {
            "destination": "orders",
            "source": "orders",
            "cursor": {"field": "day", "type": "string", "value": "orders"},
            "epoch": 1,
        }
    ],
    "counts": {},
}


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Reporter, Wire]]:
    ours, theirs = socket.socketpair()
    sending, wire = await Wire.over(ours), await Wire.over(theirs)
    reporter = Reporter(sending)
    yield reporter, wire
    reporter._sender.cancel()
    sending.close()
    wire.close()


async def heard(ends: tuple[Reporter, Wire]) -> Any:
    async with asyncio.timeout(2):
        await ends[0].flush()
        return read_frame(await ends[1].receive())


@pytest.mark.parametrize(("said", "told"), [("caf\udce9.csv", r"caf\udce9.csv"), ("a\0b", r"a\0b")])
async def test_a_text_that_no_wire_or_table_takes_is_told_escaped(
    ends: tuple[Reporter, Wire], said: str, told: str
) -> None:
    ends[0].log("info", said, name=said)
    line = await heard(ends)
    assert isinstance(line, LogLine)
    assert (line.message, line.fields) == (told, {"name": told})
    ends[0].tell(Answered(error=RunError(code="file-malformed", detail=said)))
    answered = await heard(ends)
    assert answered.error.detail == told


@pytest.mark.parametrize(("said", "told"), [("caf\udce9", r"caf\udce9"), ("a\0b", r"a\0b")])
async def test_a_name_that_no_wire_or_table_takes_is_told_escaped(
    ends: tuple[Reporter, Wire], said: str, told: str
) -> None:
    added = SchemaDifference(kind="added", field=said, after="string")
    ends[0].tell(SchemaChange(connector_id=UUID(int=1), stream="orders", changes=(added,)))
    change = await heard(ends)
    assert change.changes[0].field == told
    ends[0].tell(CursorCommitted(destination=said, source="orders", cursor={"value": said}))
    committed = await heard(ends)
    assert (committed.destination, committed.cursor) == (told, {"value": told})


async def test_an_outcome_keeps_its_names_though_a_password_is_a_word_of_them(ends: tuple[Reporter, Wire]) -> None:
    outcome = RunOutcome.model_validate(OUTCOME | {"warnings": ["no login by orders", "succeeded"]})
    ends[0].redact(Redaction(["orders", "succeeded"]))
    ends[0].tell(Finished(outcome=outcome))
    finished = await heard(ends)
    assert finished.outcome == outcome.model_copy(update={"warnings": (f"no login by {MASK}", MASK)})


async def test_what_cannot_be_sent_is_an_error_for_who_waits_for_it(ends: tuple[Reporter, Wire]) -> None:
    ends[0].tell(Answered(result={"rows": "x" * LIMIT_BYTES}))
    async with asyncio.timeout(10):
        with pytest.raises(ValueError, match="over the limit"):
            await ends[0].flush()
