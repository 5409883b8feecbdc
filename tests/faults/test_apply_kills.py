"""A process dies while definitions are applied: each service has all of them or none, a half is told, and asking again
finishes it (ADR 0044)."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from dataaggregator.client import AWAY, ApiError, Client, UnreachableError
from dataaggregator.ids import new_id
from tests.faults.cluster import Cluster
from tests.faults.doomed import CONNECTORS, PLACES
from tests.faults.full import FullPlatform
from tests.faults.invariants import Connection
from tests.integration.bus.rig import eventually

Json = dict[str, Any]
Word = Literal["old", "new"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

APART = ("gateway", "scheduler", "connectors")
LISTS = {"connector": "/api/connectors", "transformation": "/api/transformations", "pipeline": "/api/pipelines"}
WORDS: tuple[Word, ...] = ("old", "new")
MANY: Mapping[Word, int] = {"old": CONNECTORS - 1, "new": CONNECTORS}
DEAD_WITHIN_SECONDS = 60.0
DONE_WITHIN_SECONDS = 60.0


def doomed(place: str = "") -> Sequence[str]:
    return (sys.executable, "-m", "tests.faults.doomed", place)


@pytest.fixture(scope="module")
def apart(full: FullPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three more services of the same platform, each a process that may be killed."""
    known = full.cluster.environment.items()
    settings = {name: value for name, value in known if name.partition("_")[0].lower() not in APART}
    made = Cluster(tmp_path_factory.mktemp("apart"), [(service,) for service in APART], settings)
    try:
        made.start(program=doomed())
        yield made
    finally:
        codes = made.stop()
    assert set(codes) == {0}, made.printed()


def definitions(mark: str, word: Word) -> list[Json]:
    """Each says in its text which it is; of the new ones there is one more of each kind."""
    return [one for number in range(MANY[word]) for one in _three(f"{mark}-{number}", word)]


def _three(name: str, word: Word) -> tuple[Json, Json, Json]:
    end = {"connector": name, "stream": f"{word}.csv"}
    return (
        {"kind": "pipeline", "name": name, "sources": {"rows": end}, "transformations": [name], "destinations": [end]},
        {"kind": "transformation", "name": name, "steps": [{"derive": {"word": f"'{word}'"}}]},
        {"kind": "connector", "name": name, "type": "files", "config": {"root": f"file:///{word}"}},
    )


@dataclass(frozen=True)
class Applying:
    """A workspace with the old definitions, in which the new ones are applied by services that die."""

    client: Client
    connection: Connection
    mark: str

    async def apply(self, word: Word, *, dry_run: bool = False) -> Json:
        body = {"definitions": definitions(self.mark, word), "dry_run": dry_run}
        told: Json = await self.client.post("/api/apply", body)
        return told

    async def ask(self) -> Json | None:
        """For the new ones; None if no answer came, or one that says so."""
        try:
            return await self.apply("new")
        except UnreachableError:
            return None
        except ApiError as error:
            if error.status not in AWAY:
                raise
            return None

    async def ask_until_done(self) -> None:
        deadline = time.monotonic() + DONE_WITHIN_SECONDS
        while await self.ask() is None:
            assert time.monotonic() < deadline, "asking again does not finish it"
            await asyncio.sleep(0.2)

    async def found(self, *kinds: str) -> set[tuple[str, str, str]]:
        """Kind, name and word of each that is there."""
        exported = (await self.client.get("/api/export"))["definitions"]
        return {_told(one) for one in exported if one["kind"] in kinds and one["name"].startswith(self.mark)}

    async def whole(self, *kinds: str) -> Word:
        """Which ones are there, all of them and nothing else."""
        there = await self.found(*kinds)
        for word in WORDS:
            if there == {_told(one) for one in definitions(self.mark, word) if one["kind"] in kinds}:
                return word
        raise AssertionError(f"half of {kinds}: {sorted(there)}")

    async def turn_is_over(self) -> bool:
        held = "SELECT EXISTS (SELECT FROM scheduler.applies WHERE ends_at > clock_timestamp())"
        return await self.connection.fetchval(held) is False

    async def check(self, answer: Json | None) -> None:
        """Once all are at work again."""
        await eventually(self.turn_is_over, DONE_WITHIN_SECONDS)
        parts = await self.whole("connector"), await self.whole("transformation", "pipeline")
        assert parts in {("old", "old"), ("new", "old"), ("new", "new")}
        assert answer is None or parts == ("new", "new")
        if parts == ("new", "old"):
            assert (await self.apply("new", dry_run=True))["broke_off_at"] is not None, "nobody is told of the half"
        await self.ask_until_done()
        assert await self.whole(*LISTS) == "new"
        for kind, path in LISTS.items():
            for number in range(CONNECTORS):
                version = (await self.client.get(f"{path}/{self.mark}-{number}"))["version"]
                assert version == (2 if number < MANY["old"] else 1), f"{kind} {number} was saved {version} times"
        after = await self.apply("new", dry_run=True)
        assert {one["outcome"] for one in after["changes"]} == {"unchanged"}
        assert after["broke_off_at"] is None


def _told(one: Json) -> tuple[str, str, str]:
    return one["kind"], one["name"], "new" if "new" in str(one) else "old"


@pytest.fixture
async def applying(full: FullPlatform, apart: Cluster) -> AsyncIterator[Applying]:
    async with (
        full.client() as administrator,
        full.connection() as connection,
        Client(apart.url, token=administrator.tokens[0]) as client,
    ):
        applying = Applying(client, connection, f"a{new_id().hex}")
        await applying.apply("old")
        yield applying


@pytest.mark.tries(2, 20 * len(PLACES))
async def test_an_apply_that_dies_at_a_step_leaves_no_half_untold_and_is_finished_by_asking_again(
    full: FullPlatform, apart: Cluster, applying: Applying, seed: int
) -> None:
    place = list(PLACES)[(seed * 7) % len(PLACES)]
    group = (PLACES[place].service,)
    await asyncio.to_thread(apart.kill, group)
    await asyncio.to_thread(apart.start, group, program=doomed(place))
    answer = await applying.ask()
    await asyncio.to_thread(apart.bury, group, DEAD_WITHIN_SECONDS)
    await asyncio.to_thread(apart.start, group, program=doomed())
    await applying.check(answer)
    await full.check()


@pytest.mark.tries(1, 20)
async def test_an_apply_whose_process_dies_at_any_moment_leaves_no_half_untold_and_is_finished_by_asking_again(
    full: FullPlatform, apart: Cluster, applying: Applying, chance: random.Random
) -> None:
    began = time.monotonic()
    await applying.apply("new", dry_run=True)
    usual = time.monotonic() - began
    group = (chance.choice(APART),)
    asking = asyncio.create_task(applying.ask())
    await asyncio.sleep(chance.uniform(0, 3 * usual))
    await asyncio.to_thread(apart.kill, group)
    await asyncio.to_thread(apart.start, group, program=doomed())
    await applying.check(await asking)
    await full.check()
