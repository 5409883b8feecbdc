"""Contracts: where a pipeline stands, as the executor tells the scheduler and the scheduler whoever asks."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel


class CursorState(BaseModel):
    """How far one destination has taken one source stream."""

    source: str
    destination: str
    cursor: dict[str, Any]
    run_id: UUID
    committed_at: datetime


class PipelineState(BaseModel):
    """No cursors: no run of it has committed one yet."""

    pipeline_id: UUID
    cursors: list[CursorState]
