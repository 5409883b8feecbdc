"""Contracts: a whole schema as one pipeline: which streams, how they are read and written, and what decides where
one of them cannot be."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import FieldName, Sent, Some
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.modes import ReadMode, ReplaceStrategy, SchemaPolicy, StreamName, WriteMode
from dataaggregator.contracts.uses import KnownConnector, NamedConnector, Reading

USUAL_CURSORS = ("updated_at", "modified_at", "last_modified", "changed_at")
LEAVES_OUT = "!"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


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


class Override(Sent):
    """What is otherwise for one stream; what is not named is as for all.

    What is named here has to be there: a stream without that field fails. `key` stands for the primary key. Of the
    fields only `columns` are written, or all but those to `drop`.
    """

    read: ReadMode | None = None
    cursor_field: CursorFields | None = None
    lateness: Duration | None = None
    columns: Some[FieldName] | None = None
    drop: Some[FieldName] | None = None
    write: WriteMode | None = None
    replace_strategy: ReplaceStrategy | None = None
    key: Some[FieldName] | None = None
    version_field: FieldName | None = None
    delete_when: FieldName | None = None
    chunk_rows: Annotated[int, Field(ge=1, le=10**12)] | None = None
    schema_policy: SchemaPolicy | None = None

    @model_validator(mode="after")
    def _fields_are_named_once(self) -> "Override":
        if self.columns is not None and self.drop is not None:
            raise PydanticCustomError("columns", "columns says what is written, drop what is not: name one of them")
        for name in ("columns", "drop", "key"):
            fields = getattr(self, name) or ()
            if len(set(fields)) < len(fields):
                raise PydanticCustomError(name, f"each field of {name} is named once")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The fields that the stream has to have."""
        marks = tuple(name for name in (self.version_field, self.delete_when) if name is not None)
        many = (self.key, self.cursor_field, self.columns, self.drop)
        return tuple(dict.fromkeys((*(name for names in many for name in names or ()), *marks)))

    def writes(self, field: str) -> bool:
        return field in self.columns if self.columns is not None else field not in (self.drop or ())

    def of_reading(self) -> dict[str, Any]:
        """A cursor that is named for one stream is no wish that it may lack."""
        found = self._given("read", "cursor_field", "lateness")
        if self.cursor_field is not None:
            found["without_cursor"] = "fail"
        return found

    def of_writing(self) -> dict[str, Any]:
        return self._given("write", "replace_strategy", "version_field", "delete_when", "chunk_rows", "schema_policy")

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}


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
    """`parallelism` is how many streams are at work at once; `overrides` says, by a stream's name, what is otherwise
    for it.

    New is a stream that the last good run did not load, vanished one that it did and that is not there any more: its
    rows stay where they are, and a warning names it, unless the run is to fail.
    """

    from_: _FromFields = Field(alias="from")
    to: _ToFields
    overrides: Annotated[dict[StreamName, Override], Field(max_length=1_000)] = Field(default_factory=dict)
    parallelism: Annotated[int, Field(ge=1, le=32)] = 4
    on_new: Literal["load", "ignore", "fail"] = "load"
    on_vanished: Literal["keep", "fail"] = "keep"

    def override(self, stream: str) -> Override | None:
        return next((self.overrides[name] for name in names_of(stream) if name in self.overrides), None)

    def of(self, stream: str) -> Self:
        """As it is for that one."""
        one = self.override(stream)
        if one is None:
            return self
        came, to = self.from_.model_copy(update=one.of_reading()), self.to.model_copy(update=one.of_writing())
        return self.model_copy(update={"from_": came, "to": to})


class Replicate(_ReplicateFields):
    """A whole schema at once: one stream each, matched again at every run."""

    from_: ReplicateFrom = Field(alias="from")
    to: ReplicateTo


class ResolvedReplicate(_ReplicateFields):
    """The same as a run carries it; which streams these are is asked when it starts."""

    from_: ResolvedReplicateFrom = Field(alias="from")
    to: ResolvedReplicateTo


def names_of(stream: str) -> tuple[str, ...]:
    """How people write it: as the source does, or without the quotes."""
    return stream, _QUOTED.sub(lambda part: part[1].replace('""', '"'), stream)
