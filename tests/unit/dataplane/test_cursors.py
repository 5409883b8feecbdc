"""Which of what is known of a cursor counts: the destination's word, the executor's record, what was set by hand."""

from typing import Any
from uuid import UUID

import pytest

from dataaggregator.connector.destination import Begun, LoadRequest, WriteKind
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.cursors import go_on_from
from dataaggregator.dataplane.job import CursorSet, KnownCursor, RunJob

ID = UUID(int=1)
TO = "warehouse/t"
USE = {"connector_id": ID, "connector_name": "warehouse", "connector_type": "postgres"}
A = USE | {"stream": "t"}
T = USE | {"input": "a", "stream": "t", "write": "merge", "key": ["id"]}


def cursor(value: str) -> Cursor:
    return Cursor("id", "bigint", value)


def known(value: str, epoch: int) -> KnownCursor:
    return KnownCursor(destination=TO, source="a:t", cursor=cursor(value).to_json(), epoch=epoch)


def by_hand(value: str | None, epoch: int, source: str | None = "a:t") -> CursorSet:
    wanted = None if value is None else cursor(value).to_json()
    return CursorSet(destination=TO, source=source, cursor=wanted, epoch=epoch)


def goes_on(begun: Begun, **more: Any) -> dict[str, str]:
    job = RunJob.model_validate(
        {
            "run_id": ID,
            "workspace_id": ID,
            "mask_key": "0f" * 32,
            "pipeline_id": ID,
            "epoch": 9,
            "definition": {"name": "p", "sources": {"a": A}, "destinations": [T]},
            "connectors": {},
            "folder": "/nowhere",
            "kept": "/nowhere",
            **more,
        }
    )
    load = LoadRequest(ID, ID, "t", WriteKind.MERGE, 9, source_streams=("a:t", "b:u"))
    return {source: one.value for source, one in go_on_from(job, TO, load, begun).items()}


@pytest.mark.parametrize(
    ("begun", "more", "expected"),
    [
        (Begun({}), {}, {}),
        (Begun({"a:t": cursor("7"), "x:old": cursor("1")}), {}, {"a:t": "7"}),
        (Begun({}), {"cursors": (known("5", 3),)}, {"a:t": "5"}),
        (Begun({"a:t": cursor("7")}, epochs={"a:t": 4}), {"cursors": (known("5", 3),)}, {"a:t": "7"}),
        (Begun({"a:t": cursor("7")}, epochs={"a:t": 4}), {"set_by_hand": (by_hand("2", 5),)}, {"a:t": "2"}),
        (Begun({"a:t": cursor("7")}, epochs={"a:t": 6}), {"set_by_hand": (by_hand("2", 5),)}, {"a:t": "7"}),
        (Begun({"a:t": cursor("7")}), {"set_by_hand": (by_hand("2", 5),)}, {"a:t": "2"}),
        (Begun({}), {"cursors": (known("5", 3),), "set_by_hand": (by_hand("2", 4),)}, {"a:t": "2"}),
        (Begun({}), {"cursors": (known("5", 6),), "set_by_hand": (by_hand("2", 4),)}, {"a:t": "5"}),
        (Begun({"a:t": cursor("7")}), {"set_by_hand": (by_hand("2", 5), by_hand(None, 6, None))}, {}),
        (Begun({"a:t": cursor("7")}), {"set_by_hand": (by_hand(None, 5, None), by_hand("2", 6))}, {"a:t": "2"}),
        (Begun({"a:t": cursor("7")}), {"set_by_hand": (by_hand("2", 5),), "full_refresh": True}, {}),
    ],
)
def test_the_newest_word_counts_and_the_destinations_before_the_executors(
    begun: Begun, more: dict[str, Any], expected: dict[str, str]
) -> None:
    assert goes_on(begun, **more) == expected
