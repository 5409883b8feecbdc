"""Contracts: a whole schema as one pipeline: which streams, how they are read and written, and what decides where
one of them cannot be."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import FieldName, Sent, Some
from dataaggregator.contracts.modes import ReplaceStrategy, SchemaPolicy, StreamName, WriteMode
from dataaggregator.contracts.uses import KnownConnector, NamedConnector, Reading

USUAL_CURSORS = ("updated_at", "modified_at", "last_modified", "changed_at")
LEAVES_OUT = "!"


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


CursorFields = Annotated[Some[FieldName], BeforeValidator(_one_or_many, json_schema_input_type=str | Some[FieldName])]


class _FromFields(Reading):
    """The streams whose names fit a pattern as in a shell (`*`, `?`, `[ab]`), without those that fit one behind a `!`.

    Read incrementally, a stream goes on by the first of `cursor_field` that it has. One that has none is read whole,
    or fails, as `without_cursor` says; where rows are appended it fails, because they would be there twice.
    """

    streams: Some[StreamName]
    cursor_field: CursorFields = USUAL_CURSORS
    without_cursor: Literal["full_refresh", "fail"] = "full_refresh"

    @field_validator("streams")
    @classmethod
    def _some_are_meant(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        if all(pattern.startswith(LEAVES_OUT) for pattern in streams):
            raise PydanticCustomError("streams", "every pattern leaves streams out; at least one has to name some")
        if LEAVES_OUT in streams:
            raise PydanticCustomError("streams", "a ! stands before the pattern of what is left out")
        return streams


class ReplicateFrom(_FromFields, NamedConnector):
    """Where the streams are, its connector by name or id."""


class ResolvedReplicateFrom(_FromFields, KnownConnector):
    """Where the streams are, its connector known."""


class _ToFields(Sent):
    """The schema (for files: the folder) that takes each stream under its own name; `{schema}` in it stands for the
    stream's own.

    A merge takes the primary key that the source declares. A stream that has none is replaced whole, or fails, as
    `without_key` says. `version_field` and `delete_when` are those of the streams that have such a field; with
    `chunk_rows` each stream that is read incrementally is committed in chunks of about so many rows.
    `replace_strategy` is that of the streams that are replaced.
    """

    into: StreamName = Field(alias="schema")
    write: WriteMode = "replace"
    replace_strategy: ReplaceStrategy = "delete_insert"
    without_key: Literal["replace", "fail"] = "replace"
    version_field: FieldName | None = None
    delete_when: FieldName | None = None
    chunk_rows: Annotated[int, Field(ge=1, le=10**12)] | None = None
    schema_policy: SchemaPolicy = "evolve"

    @model_validator(mode="after")
    def _only_a_merge_has_keys(self) -> "_ToFields":
        for name in ("version_field", "delete_when"):
            if getattr(self, name) is not None and self.write != "merge":
                raise PydanticCustomError(name, f"{name} belongs to write: merge")
        if self.replace_strategy != "delete_insert" and self.write == "append":
            raise PydanticCustomError("replace_strategy", "nothing is replaced where rows are appended")
        if self.delete_when is not None and self.delete_when == self.version_field:
            raise PydanticCustomError("delete_when", "delete_when names a field beside version_field")
        return self


class ReplicateTo(_ToFields, NamedConnector):
    """Where the streams go, its connector by name or id."""


class ResolvedReplicateTo(_ToFields, KnownConnector):
    """Where the streams go, its connector known."""


class _ReplicateFields(Sent):
    """`parallelism` is how many streams are at work at once.

    New is a stream that the last good run did not load, vanished one that it did and that is not there any more: its
    rows stay where they are, and a warning names it, unless the run is to fail.
    """

    parallelism: Annotated[int, Field(ge=1, le=32)] = 4
    on_new: Literal["load", "ignore", "fail"] = "load"
    on_vanished: Literal["keep", "fail"] = "keep"


class Replicate(_ReplicateFields):
    """A whole schema at once: one stream each, matched again at every run."""

    from_: ReplicateFrom = Field(alias="from")
    to: ReplicateTo


class ResolvedReplicate(_ReplicateFields):
    """The same as a run carries it; which streams these are is asked when it starts."""

    from_: ResolvedReplicateFrom = Field(alias="from")
    to: ResolvedReplicateTo
