"""How long a refused login takes says nothing of whether there is such a user."""

import math
import random
import time
from collections.abc import Sequence

import pytest

from dataaggregator.settings import Settings
from tests.security import tried

from .conftest import SetClock, started

pytestmark = pytest.mark.security

COST = 8
"""Of bcrypt: about 20 ms, far from what the rest of a login takes and what it varies by."""
MINUTE_SECONDS = 60.0
FAR = 4.0
"""Standard deviations: by chance once in fifteen thousand times."""


async def test_an_unknown_email_takes_the_time_of_a_wrong_password(
    auth_settings: Settings, clock: SetClock, dice: random.Random
) -> None:
    samples = len(tried(map(str, range(200))))
    taken: dict[str, list[float]] = {"known@example.org": [], "unknown@example.org": []}
    async with started(auth_settings.model_copy(update={"bcrypt_cost": COST}), clock) as api:
        await api.user("known", token=await api.token())
        for _ in range(samples):
            clock.forward(MINUTE_SECONDS)  # each account may be tried again
            for email in dice.sample(list(taken), 2):
                began = time.perf_counter()
                status, _, _ = await api.call("POST", "/api/auth/login", {"email": email, "password": "wrong"})
                taken[email].append(time.perf_counter() - began)
                assert status == 401
    assert abs(difference(*taken.values())) < FAR


def difference(one: Sequence[float], other: Sequence[float]) -> float:
    """How far apart two samples are by Mann and Whitney, in standard deviations of what chance does."""
    above = sum((a > b) + (a == b) / 2 for a in one for b in other)
    pairs = len(one) * len(other)
    return (above - pairs / 2) / math.sqrt(pairs * (len(one) + len(other) + 1) / 12)
