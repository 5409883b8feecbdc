"""Contracts: the words for how streams are read and written, and for a stream's name."""

from typing import Annotated, Literal

from pydantic import Field

ReadMode = Literal["full_refresh", "incremental"]
WriteMode = Literal["append", "replace", "merge"]
ReplaceStrategy = Literal["delete_insert", "swap"]
SchemaPolicy = Literal["evolve", "freeze", "discard_column", "discard_row", "pause"]
StreamName = Annotated[str, Field(min_length=1, max_length=1000)]
