"""What a run declares, who is let in, and when an executor claims no more."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dataaggregator.dataplane.job import RunJob
from dataaggregator.errors import Permanent
from services.executor.room import Memory, Room
from tests.integration.executor.place import a_definition, a_job

MEMORY = Memory(limit_bytes=5 << 30, run_bytes=1 << 30, sandbox_bytes=2 << 30)
PYTHON = {"python": "def transform(rows):\n    return rows"}


def job_of(*steps: dict[str, Any], only_ask: bool = False) -> RunJob:
    definition = a_definition()
    if steps:
        definition["transformations"] = [{"name": "shaped", "inputs": ["a"], "steps": list(steps)}]
        definition["destinations"][0]["input"] = "shaped"
    return a_job(definition, only_ask=only_ask)


SMALL, LARGE = job_of(), job_of({"filter": "id > 0"})


@pytest.mark.parametrize(
    ("job", "gib"),
    [
        (SMALL, 1),
        (job_of({"select": ["id"]}, {"rename": {"id": "n"}}), 1),
        (LARGE, 3),
        (job_of({"select": ["id"]}, PYTHON), 5),
        (job_of(PYTHON, only_ask=True), 1),
    ],
    ids=["no steps", "fields only", "an engine", "Python", "only asks"],
)
def test_a_run_declares_the_processes_it_needs(job: RunJob, gib: int) -> None:
    assert MEMORY.declared(job) == gib << 30


def test_a_source_of_which_rows_are_kept_needs_an_engine() -> None:
    definition = a_definition()
    definition["sources"]["a"] |= {"read": "incremental", "cursor_field": "t", "primary_key": ["id"], "keep": "full"}
    assert MEMORY.declared(a_job(definition)) == 3 << 30


async def entered(room: Room, job: RunJob, stack: AsyncExitStack) -> bool:
    """Whether it comes in without waiting."""
    try:
        async with asyncio.timeout(0.05):
            await stack.enter_async_context(room.taken(job))
    except TimeoutError:
        return False
    return True


async def test_no_more_come_in_than_there_are_slots_and_memory_for() -> None:
    async with AsyncExitStack() as held:
        slots, memory = Room(2, Memory(9 << 30, 1 << 30, 2 << 30)), Room(9, MEMORY)
        assert [await entered(slots, SMALL, held) for _ in range(3)] == [True, True, False]
        assert [await entered(memory, job, held) for job in (LARGE, SMALL, LARGE)] == [True, True, False]


async def test_one_that_needs_much_is_not_passed_by() -> None:
    room, order = Room(9, MEMORY), list[str]()

    async def work(name: str, job: RunJob, done: asyncio.Event) -> None:
        async with room.taken(job):
            order.append(name)
            await done.wait()

    first_done, done = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for name, job, until in (("first", LARGE, first_done), ("large", LARGE, done), ("small", SMALL, done)):
            tasks.create_task(work(name, job, until))
            await asyncio.sleep(0)
        assert (order, room.takes_more) == (["first"], False)
        first_done.set()
        async with asyncio.timeout(5):
            while len(order) < 3:  # noqa: ASYNC110 - the next turn of the loop lets them in
                await asyncio.sleep(0)
        assert (order, room.takes_more) == (["first", "large", "small"], True)
        done.set()


async def test_nothing_is_claimed_until_what_one_gave_up_waiting_for_is_free() -> None:
    room = Room(9, MEMORY)
    async with AsyncExitStack() as held:
        assert await entered(room, LARGE, held)
        assert not await entered(room, LARGE, held)
        assert not room.takes_more
    assert room.takes_more


async def test_what_was_taken_is_given_back_whatever_happens() -> None:
    room = Room(1, MEMORY)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with room.taken(LARGE):
                raise ZeroDivisionError
    async with AsyncExitStack() as held:
        assert await entered(room, LARGE, held)


def test_what_never_fits_is_told_with_both_sizes() -> None:
    room = Room(2, Memory(2 << 30, 1 << 30, 2 << 30))
    assert room.lacks(SMALL) is None
    with pytest.raises(Permanent) as caught:
        room.lacks(LARGE)
    assert caught.value.code == "run-does-not-fit"
    assert "3,072 MiB" in caught.value.detail
    assert "2,048 MiB" in caught.value.detail
