"""Lines of a log whose COMMIT is not answered: whether the server obeyed it or not, each stands in the log once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from dataaggregator.bus import EmbeddedBus
from dataaggregator.clock import SystemClock
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.report import Report
from services.executor.store import logs
from services.executor.store.runs import Run
from tests.faults.proxy import Proxy, Side
from tests.integration.commits import commits_held
from tests.integration.control import until

LINES = ["Attempt 1 started.", "a", "b"]


@dataclass
class Telling:
    """An attempt at work by way of the proxy."""

    run: Run
    report: Report
    attempts: Attempts
    database: Database
    proxy: Proxy
    asked: int = 0
    """How often it was asked what became of a COMMIT."""

    async def asked_again(self) -> bool:
        """An answer has come to an earlier question, then."""
        return self.asked >= 2

    async def ended(self) -> list[str]:
        """The log of the attempt when its end is recorded."""
        lines = await self.report.take_lines()
        assert await self.attempts.record(self.run, AttemptEnd(End.CANCELLED), lines) is not None
        async with self.database.transaction(self.run.workspace_id) as tx:
            told, _ = await logs.list_lines(tx, self.run.workspace_id, self.run.run_id, level="debug", after=0, limit=9)
        return [line.message for line in told]


@pytest.fixture
async def telling(
    claimed: Callable[[], Awaitable[Run]],
    attempts: Attempts,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Telling]:
    run = await claimed()
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with Proxy(urlsplit(url).port or 5432) as proxy:
        through = Database(proxy.through(url), settings)
        await through.open()
        report = Report(run, attempts, through, EmbeddedBus(through, settings), SystemClock())
        telling = Telling(run, report, attempts, database, proxy)
        ask = logs.has_committed

        async def counted(tx: Connection, transaction: str) -> bool:
            telling.asked += 1
            return await ask(tx, transaction)

        monkeypatch.setattr(logs, "has_committed", counted)
        yield telling
        await through.close()


async def test_lines_whose_commit_was_obeyed_are_not_stored_again(telling: Telling, database_url: str) -> None:
    async with telling.report as report:
        report.tell("info", "a")
        async with commits_held(database_url, "executor.logs") as held:
            await until(held.waiting, "the COMMIT to be under way")
            telling.proxy.half_open(Side.CLIENT)  # the connection is lost, the server goes on with the COMMIT
            report.tell("info", "b")
            await until(telling.asked_again, "the answer that it is still under way")
    assert await telling.ended() == LINES


async def test_lines_whose_commit_was_undone_are_stored_again(telling: Telling, database_url: str) -> None:
    async with telling.report as report, commits_held(database_url, "executor.logs") as held:
        report.tell("info", "a")
        await until(held.waiting, "the COMMIT to be under way")
        report.tell("info", "b")
        await held.release()
        await held.undo()
    assert await telling.ended() == LINES


async def test_an_attempt_ends_when_it_is_known_which_of_its_lines_are_stored(
    telling: Telling, database_url: str
) -> None:
    async with commits_held(database_url, "executor.logs") as held:
        async with telling.report as report:
            report.tell("info", "a")
            await until(held.waiting, "the COMMIT to be under way")
            telling.proxy.half_open(Side.CLIENT)
            report.tell("info", "b")
        with pytest.raises(Transient):
            await report.take_lines()
    assert await telling.ended() == LINES
