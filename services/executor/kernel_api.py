"""kernel: the executor's HTTP door: what its kernel gives to the sandboxes of its runs."""

from dataclasses import dataclass
from typing import Literal

from dataaggregator.contracts.kernel import PATH, KernelFacts
from dataaggregator.dataplane.sandbox.facts import kernel_facts
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route


@dataclass(frozen=True)
class KernelApi:
    level: Literal["strict", "basic"]

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET", PATH, self.show, "What holds a sandbox here", "internal", None,
                answers={200: KernelFacts}, internal=True,
            )
        ]  # fmt: skip

    async def show(self, _: Call) -> Answer:
        return Answer(kernel_facts(self.level))
