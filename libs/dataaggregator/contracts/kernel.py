"""Contracts: what the kernel gives to a sandbox, part by part, as executors tell it and operators see it."""

from typing import Literal

from pydantic import Field

from dataaggregator.contracts.base import Told

PATH = "/internal/sandbox"
"""Where an executor tells its facts to the gateway."""


class KernelPart(Told):
    """One thing that keeps a process in its place."""

    name: str
    available: bool = Field(description="Whether this kernel gives it to us.")
    used: bool = Field(description="Whether a sandbox started now is held by it.")
    needed: bool = Field(description="Whether SANDBOX=strict refuses to run without it.")
    detail: str = Field(description="What it holds, or why it is not used.")
    cure: str | None = Field(None, description="What to do where it is needed and not there.")


class KernelFacts(Told):
    """The level asked for, and every part of it on the machine that was asked."""

    level: Literal["strict", "basic"]
    machine: str
    parts: tuple[KernelPart, ...]

    @property
    def missing(self) -> tuple[KernelPart, ...]:
        """What strict needs and this kernel does not give."""
        return tuple(part for part in self.parts if part.needed and not part.available)

    @property
    def sound(self) -> bool:
        """Whether a sandbox can be started at this level."""
        return self.level == "basic" or not self.missing
