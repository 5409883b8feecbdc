"""Contracts: where reading goes on in a pipeline, as it is told and as it is set by hand."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.contracts.replicate import names_of
from dataaggregator.definition import Author

MOST_CURSORS = 1000
MOST_CHARACTERS = 1000
_Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, pattern="^[^\\x00]*$")]


class CursorState(BaseModel):
    """Where reading goes on for one source stream into one destination; `cursor` null is from the beginning."""

    source: str
    destination: str
    cursor: dict[str, Any] | None
    run_id: UUID
    """The run that was the last to commit a cursor here, at `committed_at`."""
    committed_at: datetime
    set_at: Annotated[
        datetime | None, Field(description="When somebody set `cursor` by hand; null once a run has committed again.")
    ] = None


class PipelineState(BaseModel):
    """No cursors: no run of it has committed one yet. `version` grows with every commit and every change by hand."""

    pipeline_id: UUID
    version: int
    cursors: list[CursorState]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CursorValue(_Given):
    """The field and its type stay as they are: they may be left out."""

    value: Annotated[str, Field(max_length=MOST_CHARACTERS, pattern="^[^\\x00]*$")]
    field: _Text | None = None
    type: _Text | None = None


class CursorWish(_Given):
    """Go on behind this value; null is from the beginning."""

    source: Annotated[
        _Text, Field(description="As the state shows it, the source's name in the pipeline, or the stream's.")
    ]
    destination: Annotated[_Text | None, Field(description="As the state shows it; without one, every one.")] = None
    cursor: CursorValue | None


class StateWish(_Given):
    """What is not named stays as it is."""

    cursors: Annotated[tuple[CursorWish, ...], Field(min_length=1, max_length=MOST_CURSORS)]


class StateChange(_Given):
    """What the scheduler hands on to the executor; without a wish everything is read from the beginning."""

    pipeline: str
    wish: StateWish | None
    appended: tuple[str, ...]
    """The destinations in which rows that are read again would be there twice."""
    all_appended: bool = False
    """Whether that is so of every destination there is; which these are is known to executors only."""
    of_streams: dict[str, bool] = {}
    """By the name of a stream of a whole schema, where it is otherwise."""
    if_match: str | None
    author: Author

    def appends(self, source: str) -> bool:
        """Of a whole schema, by the source's name as the state has it."""
        names = names_of(source.partition(":")[2])
        return next((self.of_streams[name] for name in names if name in self.of_streams), self.all_appended)
