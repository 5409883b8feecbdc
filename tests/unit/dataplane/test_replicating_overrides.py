"""One stream of a whole schema that is to be read and written otherwise than the others."""

from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.connector.source import StreamInfo
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.replicate import ResolvedReplicate
from dataaggregator.dataplane.compile.replicate import wrong_modes
from dataaggregator.dataplane.job import ReplicatedStream
from dataaggregator.dataplane.replicating.matching import Found
from dataaggregator.dataplane.replicating.planning import CHOSEN, SOURCE, Planned, plan
from dataaggregator.dataplane.replicating.replaying import replayed_stream
from dataaggregator.errors import Conflict
from tests.unit.dataplane.test_replicating import replicate

WIDE = pa.schema([(name, pa.int64()) for name in ("id", "code", "at", "secret")])
MERGED = ({"read": "incremental", "cursor_field": "at"}, {"write": "merge", "chunk_rows": 9})


def given(override: dict[str, Any], name: str = "public.a") -> ResolvedReplicate:
    return replicate(*MERGED, overrides={name: override})


def of(override: dict[str, Any], name: str = "public.a", *, key: tuple[str, ...] = ("id",)) -> Planned:
    streams = (StreamInfo(name, WIDE, key, ("id", "at")), StreamInfo("public.other", WIDE, ("id",), ("id", "at")))
    one, other = plan(given(override, name), Found(streams), ()).planned
    assert (other.read, other.write, other.cursor_field, other.error) == ("incremental", "merge", "at", None)
    return one


def test_what_is_said_of_one_stream_holds_for_it_and_the_rest_is_as_for_all() -> None:
    wished = {"cursor_field": "id", "lateness": "2h", "key": ["code"], "version_field": "at", "chunk_rows": 7}
    override = {**wished, "schema_policy": "freeze", "drop": ["secret"]}
    made = of(override).pipeline(ResolvedPipeline(name="all", replicate=given(override)))
    source, (destination,) = made.sources[SOURCE], made.destinations
    assert (source.read, source.cursor_field, source.lateness) == ("incremental", "id", "2h")
    assert (source.primary_key, destination.key) == (("id",), ("code",))
    assert (destination.write, destination.version_field, destination.chunk_rows) == ("merge", "at", 7)
    assert (destination.schema_policy, destination.input) == ("freeze", CHOSEN)
    assert [step.kind for step in made.transformations[0].steps] == ["drop"]


def test_what_all_have_and_one_cannot_have_is_not_asked_of_it() -> None:
    override = {"read": "full_refresh", "write": "replace", "replace_strategy": "swap"}
    assert list(wrong_modes(given(override))) == []
    made = of(override).pipeline(ResolvedPipeline(name="all", replicate=given(override)))
    source, (destination,) = made.sources[SOURCE], made.destinations
    assert (source.read, source.cursor_field, source.lateness, made.transformations) == ("full_refresh", None, None, ())
    assert (destination.write, destination.key, destination.chunk_rows) == ("replace", (), None)
    assert (destination.replace_strategy, destination.input) == ("swap", SOURCE)


def test_a_key_that_is_named_is_merged_by_where_the_source_declares_none() -> None:
    one = of({"key": ["code", "at"]}, key=())
    assert (one.write, one.key, one.remark) == ("merge", ("code", "at"), None)


def test_a_name_that_the_source_quotes_is_meant_without_quotes_too() -> None:
    for name in ('public."a.b"', "public.a.b"):
        streams = Found((StreamInfo('public."a.b"', WIDE, ("id",), ("at",)),))
        told = plan(given({"read": "full_refresh"}, name), streams, ())
        assert ([one.read for one in told.planned], told.warnings) == (["full_refresh"], ())


def test_an_override_of_a_stream_that_is_not_there_is_told() -> None:
    streams = Found((StreamInfo("public.other", WIDE, ("id",), ("at",)),))
    told = plan(given({"read": "full_refresh"}, "public.typo"), streams, ())
    assert told.warnings == ("erp has no public.typo, of which overrides speak.",)


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ({"key": ["nope"]}, "replicate-no-field"),
        ({"version_field": "nope"}, "replicate-no-field"),
        ({"columns": ["id", "nope"]}, "replicate-no-field"),
        ({"drop": ["nope"]}, "replicate-no-field"),
        ({"drop": ["id"]}, "replicate-no-field"),
        ({"columns": ["code"]}, "replicate-no-field"),
        ({"cursor_field": "code"}, "replicate-no-cursor"),
        ({"cursor_field": "nope"}, "replicate-no-cursor"),
    ],
)
def test_a_field_that_is_named_and_not_there_fails_that_stream_alone(override: dict[str, Any], code: str) -> None:
    error = of(override).error
    assert error is not None
    assert error.code == code


@pytest.mark.parametrize(
    ("override", "field", "code"),
    [
        ({"write": "replace"}, "write", "incremental-replace"),
        ({"read": "full_refresh", "write": "append"}, "write", "full-refresh-append"),
        ({"write": "append", "lateness": "1h"}, "write", "lateness-append"),
        ({"read": "full_refresh", "chunk_rows": 5}, "chunk_rows", "chunk-rows-impossible"),
        ({"read": "full_refresh", "cursor_field": "at"}, "cursor_field", "cursor_field"),
        ({"read": "full_refresh", "lateness": "1h"}, "lateness", "lateness"),
        ({"write": "append", "key": ["id"]}, "key", "key"),
        ({"write": "append", "version_field": "at"}, "version_field", "version_field"),
        ({"write": "append", "replace_strategy": "swap"}, "replace_strategy", "replace_strategy"),
        ({"delete_when": "id", "key": ["id"]}, "delete_when", "delete_when"),
        ({"delete_when": "at", "version_field": "at"}, "delete_when", "delete_when"),
        ({"key": ["id"], "drop": ["id", "at"]}, "drop", "field-left-out"),
        ({"version_field": "at", "columns": ["id"]}, "columns", "field-left-out"),
    ],
)
def test_what_could_never_hold_for_a_stream_is_refused_at_saving(
    override: dict[str, Any], field: str, code: str
) -> None:
    (wrong,) = wrong_modes(given(override))
    assert (wrong.field, wrong.code) == (f"replicate.overrides.public.a.{field}", code)


@pytest.mark.parametrize("name", ["sales.a", "public.tmp_a", "public.*"])
def test_an_override_names_one_stream_that_the_patterns_mean(name: str) -> None:
    came = {**MERGED[0], "streams": ["public.*", "!public.tmp_*"]}
    (wrong,) = wrong_modes(replicate(came, MERGED[1], overrides={name: {"key": ["id"]}}))
    assert (wrong.field, wrong.code) == (f"replicate.overrides.{name}", "stream-unknown")


def test_rows_with_columns_that_are_not_written_any_more_are_not_replayed() -> None:
    whole = ResolvedPipeline(name="all", replicate=given({"drop": ["secret"], "cursor_field": "at"}))
    stream = ReplicatedStream(stream="public.a", primary_key=("id",))
    kept = pa.schema([field for field in WIDE if field.name not in ("secret", "at")])
    made = replayed_stream(whole, stream, kept, "house/raw.a")
    assert (made.definition.transformations, made.definition.destinations[0].input) == ((), made.source)
    with pytest.raises(Conflict) as caught:
        replayed_stream(whole, stream, WIDE, "house/raw.a")
    assert caught.value.code == "replay-step-changed"
