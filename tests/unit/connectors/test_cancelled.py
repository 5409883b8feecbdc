"""A load that is cancelled while it waits leaves nothing behind in a process that goes on: no task, no lock."""

import asyncio
import threading
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.local import LocalTree
from dataaggregator_connectors.files.local_ledger import LocalLedger
from dataaggregator_connectors.files.names import place_of
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.copying import PIECES_AHEAD, CopyIn
from dataaggregator_connectors.postgres.sql import Table


class Stuck:
    """A connection whose server takes nothing."""

    async def copy_to_table(self, *_: Any, **__: Any) -> str:
        await asyncio.Event().wait()
        return "COPY 0"


async def test_a_copy_that_was_cancelled_at_a_full_queue_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    copy = CopyIn(cast("Connection", Stuck()), Table("public", "t"), ["a"], "text")
    for _ in range(PIECES_AHEAD):
        await copy.send(b"row")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(copy.send(b"one too many"), 0.05)
    await copy.abandon()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_lock_that_is_taken_after_the_load_was_cancelled_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = LoadRequest(UUID(int=1), UUID(int=2), "orders", WriteKind.APPEND, epoch=1)
    tree = LocalTree(
        FilesConfig(root=tmp_path.as_uri()), Context(Egress(EgressPolicy()), folder=tmp_path, allowed_roots=(tmp_path,))
    )
    first, second = (LocalLedger(tree, place_of("orders")) for _ in range(2))
    looking, go, look = threading.Event(), threading.Event(), first._try_lock

    def slow() -> int | None:
        looking.set()
        go.wait(5)
        return look()

    monkeypatch.setattr(first, "_try_lock", slow)
    begun = asyncio.create_task(first.begin(load))
    await asyncio.to_thread(looking.wait)
    begun.cancel()
    await asyncio.wait([begun])
    first.release()
    go.set()
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        await second.begin(load)
    second.release()
