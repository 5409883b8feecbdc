"""Hypothesis state machines over a real database: rules say what happens, a model knows what must be so after each."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, Generic, TypeVar

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

World = TypeVar("World")
T = TypeVar("T")

EXAMPLES, STEPS = 10, 25
"""At each of the tries."""


class Machine(RuleBasedStateMachine, Generic[World]):
    """Rules run in a thread of their own; what they ask of the platform is awaited in the loop of the test."""

    world: ClassVar[Any]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asked, self.loop).result(60)


async def run_machine(machine: type[Machine[World]], world: World, seed: int) -> None:
    """So many examples, by chance that can be repeated; a failing one is made smaller and shown step by step."""
    bound = type(machine.__name__, (machine,), {"world": world, "loop": asyncio.get_running_loop()})
    many = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    await asyncio.to_thread(run_state_machine_as_test, hypothesis.seed(seed)(bound), settings=many)
