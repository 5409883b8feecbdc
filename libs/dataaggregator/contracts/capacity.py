"""Contracts: how many runs may be at work at once, which executors there are, and why a run waits."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from dataaggregator.contracts.base import Sent, Told
from dataaggregator.settings.values import LABEL

EXECUTORS_PATH = "/internal/executors"
"""Where an executor tells the gateway of itself and its neighbours."""

WAITING_PATH = "/internal/runs/waiting"
"""Where an executor tells the scheduler what queued runs wait for."""

MOST_LANES = 1000

Label = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=100, examples=["gpu", "region=eu"])]
"""A word such as `gpu`, or a name with a value such as `region=eu`; compared as it is written."""

AtOnce = Annotated[int, Field(ge=1, le=MOST_LANES)]


class ExecutorSeen(Told):
    """An executor, as it has said last."""

    name: str
    labels: tuple[str, ...]
    slots: int = Field(description="How many runs it works on at once.")
    used: int = Field(description="How many of its slots were taken when it was seen.")
    started_at: AwareDatetime
    seen_at: AwareDatetime
    alive: bool = Field(description="False of one that has not been seen for LEASE_SECONDS.")


class Unclaimed(Told):
    """Runs that wait for labels that no executor has that is alive."""

    labels: tuple[str, ...]
    runs: int = Field(description="How many, counted up to 1,000 for each workspace and priority.")


class Capacity(Told):
    executors: tuple[ExecutorSeen, ...]
    unclaimed: tuple[Unclaimed, ...]


class WaitingWish(Sent):
    run_ids: Annotated[tuple[UUID, ...], Field(max_length=1000)]


class WaitingFor(Told):
    """What a queued run waits for, where it is something else than a free slot."""

    code: str
    detail: str
    help: str | None = None


class WaitingRuns(Told):
    """By run; those that are not in it wait for a slot only, or wait no more."""

    runs: dict[UUID, WaitingFor]


class RunLimitWish(Sent):
    """How many runs of the workspace may be at work at once; null: no limit of its own."""

    runs: AtOnce | None


class RunLimit(Told):
    """How many runs of a workspace may be at work at once."""

    runs: int | None = Field(description="As the workspace's admins have said; null: nothing.")
    installation: int | None = Field(description="WORKSPACE_RUN_LIMIT: no workspace may have more.")
    effective: int | None = Field(description="The lesser of the two; null: no limit.")
