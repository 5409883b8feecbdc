"""The limits kept in this process keep the port's promises and forget what no longer matters."""

from dataaggregator.limits import Limits, Rate
from dataaggregator.limits.in_process import InProcessLimits

from .limits_conformance import RATES, LimitsConformance


class TestInProcessLimits(LimitsConformance):
    _now = 1000.0

    def make(self) -> Limits:
        return InProcessLimits(RATES, monotonic=lambda: self._now)

    async def forward(self, seconds: float) -> None:
        self._now += seconds


async def test_full_buckets_are_forgotten() -> None:
    now = 0.0
    limits = InProcessLimits({"api": Rate(10, 10)}, monotonic=lambda: now)
    for number in range(limits._SWEEP_AT):
        await limits.take("api", f"ip:{number}")
    now = 11.0
    await limits.take("api", "ip:new")
    assert len(limits._buckets) == 1
