"""A whole schema before a row of it is read: which streams are meant, where each goes, how it is read and written."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pytest

from dataaggregator.connector.source import StreamInfo
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.replicate import ResolvedReplicate
from dataaggregator.dataplane.compile.patterns import Patterns
from dataaggregator.dataplane.job import ReplicatedStream
from dataaggregator.dataplane.replicating.matching import Found, find
from dataaggregator.dataplane.replicating.planning import MOST_STREAMS, Planned, plan
from dataaggregator.dataplane.replicating.replaying import replayed_stream
from dataaggregator.errors import Conflict, Invalid

ERP, HOUSE = uuid4(), uuid4()


def replicate(came: dict[str, Any] | None = None, to: dict[str, Any] | None = None, **more: Any) -> ResolvedReplicate:
    return ResolvedReplicate.model_validate(
        {
            "from": _end("erp", ERP) | {"streams": ["public.*"]} | (came or {}),
            "to": _end("house", HOUSE) | {"schema": "raw"} | (to or {}),
            **more,
        }
    )


def _end(name: str, id_: UUID) -> dict[str, Any]:
    return {"connector_id": id_, "connector_name": name, "connector_type": "postgres"}


def stream(name: str, key: Sequence[str] = ("id",), cursors: Sequence[str] = ("id", "updated_at")) -> StreamInfo:
    return StreamInfo(name, pa.schema([("id", pa.int64())]), tuple(key), tuple(cursors))


def planned(given: ResolvedReplicate, *streams: StreamInfo) -> list[Planned]:
    return list(plan(given, Found(streams, ()), ()).planned)


class Listing:
    """A source that has these streams."""

    def __init__(self, *names: str) -> None:
        self.asked: list[str | None] = []
        self._names = names

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        self.asked.append(pattern)
        return [stream(name) for name in self._names if fnmatchcase(name, pattern or "*")]


@pytest.mark.parametrize(
    ("written", "fits", "others"),
    [
        (["public.*"], ["public.a", 'public."a.b"'], ["sales.a", "Public.a"]),
        (["*", "!public.tmp_*"], ["a", "sales.tmp_a"], ["public.tmp_a", 'public."tmp_a.b"']),
        (["!public.tmp_*", "public.*"], ["public.a"], ["public.tmp_a"]),
        (["public.a.b"], ['public."a.b"'], ["public.a_b"]),
        (['public.a"b'], ['public."a""b"'], ["public.ab"]),
        (['public."a.b"'], ['public."a.b"'], ["public.a"]),
        (["public.[ab]?"], ["public.a1", "public.b2"], ["public.c1", "public.a"]),
    ],
)
def test_patterns_are_as_in_a_shell_and_what_is_left_out_stays_out(
    written: list[str], fits: list[str], others: list[str]
) -> None:
    patterns = Patterns.of(written)
    assert [name for name in (*fits, *others) if patterns.fit(name)] == fits


async def test_streams_are_asked_for_by_pattern_and_each_is_meant_once() -> None:
    source = Listing("public.b", "public.a", "public.tmp")
    found = await find(source, Patterns.of(["public.*", "*.a", "x.*", "!*.tmp"]))  # type: ignore[arg-type]
    assert [one.name for one in found.streams] == ["public.a", "public.b"]
    assert (found.idle, source.asked) == (("x.*",), ["public.*", "*.a", "x.*"])


@pytest.mark.parametrize(
    ("wished", "of", "becomes"),
    [
        (("full_refresh", "replace"), stream("public.a"), ("full_refresh", "replace", None)),
        (("full_refresh", "merge"), stream("public.a"), ("full_refresh", "merge", None)),
        (("full_refresh", "merge"), stream("public.a", key=()), ("full_refresh", "replace", "replaced")),
        (("incremental", "merge"), stream("public.a"), ("incremental", "merge", None)),
        (("incremental", "merge"), stream("public.a", cursors=["id"]), ("full_refresh", "merge", "read whole")),
        (("incremental", "merge"), stream("public.a", key=()), ("full_refresh", "replace", "replaced")),
        (("incremental", "append"), stream("public.a", key=()), ("incremental", "append", None)),
    ],
)
def test_where_a_cursor_or_a_key_is_wanting_a_stream_is_read_whole_and_nothing_is_doubled(
    wished: tuple[str, str], of: StreamInfo, becomes: tuple[str, str, str | None]
) -> None:
    (one,) = planned(replicate({"read": wished[0]}, {"write": wished[1]}), of)
    assert (one.target, one.error) == ("raw.a", None)
    assert (one.read, one.write, one.remark) == becomes
    assert (one.cursor_field is not None) == (one.read == "incremental")


@pytest.mark.parametrize(
    ("came", "to", "of", "code"),
    [
        ({"without_cursor": "fail"}, {"write": "merge"}, stream("public.a", cursors=[]), "replicate-no-cursor"),
        ({}, {"write": "append"}, stream("public.a", cursors=["id"]), "replicate-no-cursor"),
        ({}, {"write": "merge", "without_key": "fail"}, stream("public.a", key=()), "replicate-no-key"),
        ({}, {"write": "merge"}, stream('public."' + "a" * 64 + '"'), "identifier-invalid"),
    ],
)
def test_a_stream_that_cannot_be_loaded_as_wished_fails_by_itself(
    came: dict[str, Any], to: dict[str, Any], of: StreamInfo, code: str
) -> None:
    broken, good = planned(replicate({"read": "incremental"} | came, to), of, stream("public.good"))
    assert broken.error is not None
    assert (broken.error.code, broken.error.retryable, good.error) == (code, False, None)


def test_the_first_cursor_field_that_a_stream_has_is_its_own() -> None:
    given = replicate({"read": "incremental", "cursor_field": ["changed", "id"]}, {"write": "merge"})
    one, two = planned(given, stream("public.a", cursors=["id", "changed"]), stream("public.b", cursors=["id"]))
    assert (one.cursor_field, two.cursor_field) == ("changed", "id")


def test_two_streams_of_one_name_are_refused_with_both_names_unless_their_schemas_are_kept_apart() -> None:
    streams = (stream("public.a"), stream("sales.a"))
    with pytest.raises(Conflict, match=r"public\.a and sales\.a into raw\.a") as caught:
        planned(replicate({"streams": ["*"]}), *streams)
    assert caught.value.code == "replicate-target-twice"
    apart = planned(replicate({"streams": ["*"]}, {"schema": "raw_{schema}"}), *streams)
    assert [one.target for one in apart] == ["raw_public.a", "raw_sales.a"]


def test_what_is_wished_of_loads_is_wished_of_those_that_can_have_it() -> None:
    wished = {"delete_when": "gone", "version_field": "id", "chunk_rows": 9, "replace_strategy": "swap"}
    given = replicate({"read": "incremental"}, {"write": "merge", **wished})
    gone = pa.table({"id": [1], "gone": [True]}).schema
    whole = ResolvedPipeline(name="all", replicate=given)
    streams = [
        StreamInfo("public.a", gone, ("key",), ("updated_at",)),
        StreamInfo("public.b", gone, ("id",), ()),
        StreamInfo("public.c", gone, (), ("updated_at",)),
    ]
    found = [one.pipeline(whole).destinations[0] for one in planned(given, *streams)]
    assert [(one.version_field, one.delete_when, one.chunk_rows, one.replace_strategy) for one in found] == [
        ("id", "gone", 9, "delete_insert"),
        (None, "gone", None, "delete_insert"),
        (None, None, None, "swap"),
    ]


def test_names_are_quoted_only_where_they_have_to_be() -> None:
    names = ["public.Camel", 'public."a.b"', 'public."a""b"']
    assert [one.target for one in planned(replicate(), *map(stream, names))] == ["raw.Camel", 'raw."a.b"', 'raw."a""b"']


def test_what_came_and_went_is_judged_by_the_patterns_of_today() -> None:
    found = Found((stream("public.a"), stream("public.new")), ())
    known = {"public.a", "public.gone", "sales.of_other_patterns"}
    told = plan(replicate(), found, known)
    assert [one.stream for one in told.planned] == ["public.a", "public.new"]
    assert [warning.partition(" ")[0] for warning in told.warnings] == ["public.gone"]
    ignoring = plan(replicate(on_new="ignore"), found, known)
    assert [one.stream for one in ignoring.planned] == ["public.a"]
    assert any(warning.startswith("public.new is new") for warning in ignoring.warnings)
    for policy, code in (("on_new", "replicate-new"), ("on_vanished", "replicate-vanished")):
        with pytest.raises(Conflict) as caught:
            plan(replicate(None, None, **{policy: "fail"}), found, known)
        assert caught.value.code == code
    first = plan(replicate(on_new="fail", on_vanished="fail"), found, ())
    assert len(first.planned) == 2


def test_more_streams_than_a_run_takes_are_refused() -> None:
    with pytest.raises(Invalid, match="part them") as caught:
        planned(replicate(), *(stream(f"public.t{number}") for number in range(MOST_STREAMS + 1)))
    assert caught.value.code == "replicate-too-many"


ROWS = pa.schema([("id", pa.int64()), ("updated_at", pa.timestamp("us"))])


def test_rejected_rows_go_to_the_stream_that_they_came_from_as_it_is_written_now() -> None:
    given = replicate({"read": "incremental"}, {"write": "merge", "version_field": "updated_at", "chunk_rows": 9})
    of = ReplicatedStream(stream="public.a", primary_key=("id",))
    made = replayed_stream(ResolvedPipeline(name="all", replicate=given), of, ROWS, "house/raw.a")
    (one,) = made.definition.destinations
    assert (one.stream, one.write, one.key, one.version_field) == ("raw.a", "merge", ("id",), "updated_at")
    assert (one.input, list(made.definition.sources), made.definition.replicate) == (made.source, [made.source], None)


@pytest.mark.parametrize(
    ("came", "to", "code"),
    [
        ({"streams": ["public.b*"]}, {"write": "merge"}, "replay-nowhere"),
        ({"streams": ["*", "!public.a"]}, {"write": "merge"}, "replay-nowhere"),
        ({}, {"write": "merge", "schema": "elsewhere"}, "replay-nowhere"),
        ({}, {"write": "replace"}, "replay-replace"),
    ],
)
def test_rejected_rows_of_a_stream_that_is_not_loaded_there_any_more_go_nowhere(
    came: dict[str, Any], to: dict[str, Any], code: str
) -> None:
    whole = ResolvedPipeline(name="all", replicate=replicate(came, to))
    with pytest.raises(Conflict) as caught:
        replayed_stream(whole, ReplicatedStream(stream="public.a", primary_key=("id",)), ROWS, "house/raw.a")
    assert caught.value.code == code
