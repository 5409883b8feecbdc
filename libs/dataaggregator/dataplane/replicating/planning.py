"""What becomes of each stream: where it goes, how it is read and written, what is refused before a row is read."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dataaggregator.catalogue import help_section
from dataaggregator.connector.registry import connector_type
from dataaggregator.connector.source import ReadMode as Mode
from dataaggregator.connector.source import StreamInfo
from dataaggregator.connector.spec import ConnectorType
from dataaggregator.contracts.modes import ReadMode, WriteMode
from dataaggregator.contracts.pipeline import (
    ResolvedDestination,
    ResolvedPipeline,
    ResolvedSource,
    ResolvedTransformation,
)
from dataaggregator.contracts.replicate import Override, ResolvedReplicate, names_of
from dataaggregator.contracts.run import RunError
from dataaggregator.contracts.steps import DropStep, SelectStep
from dataaggregator.dataplane.compile.patterns import Patterns
from dataaggregator.dataplane.replicating.matching import Found
from dataaggregator.errors import Conflict, Invalid

SOURCE = "stream"
"""The source's name in the pipeline of each stream. With the stream it is the key of the cursor: it never changes."""
CHOSEN = "columns"
"""What leaves columns of it out is called in that pipeline."""
MOST_STREAMS = 5_000
NAMED = 10
RECORD = "streams.json"
Remark = Literal["read whole", "replaced"]


class Planned(BaseModel):
    """One stream; with an `error` it is not even begun."""

    model_config = ConfigDict(frozen=True)

    stream: str
    target: str
    read: ReadMode = "full_refresh"
    write: WriteMode = "replace"
    cursor_field: str | None = None
    key: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    """The one that the source declares; `key` is another where somebody said so."""
    columns: tuple[str, ...] = ()
    """Those alone are written; empty: all but those to `drop`."""
    drop: tuple[str, ...] = ()
    fields: frozenset[str] = frozenset()
    """Those of the fields with a meaning to a merge that it has."""
    remark: Remark | None = None
    """In which it is not what was wished."""
    error: RunError | None = None

    def pipeline(self, whole: ResolvedPipeline) -> ResolvedPipeline:
        """A pipeline of this stream alone."""
        assert whole.replicate is not None  # noqa: S101  (that is what was planned)
        mine, chosen = whole.replicate.of(self.stream), self._chosen()
        came, to = mine.from_, mine.to
        source = ResolvedSource(
            stream=self.stream,
            read=self.read,
            cursor_field=self.cursor_field,
            lateness=came.lateness if self.read == "incremental" else None,
            primary_key=self.primary_key,
            connector_id=came.connector_id,
            connector_name=came.connector_name,
            connector_type=came.connector_type,
        )
        destination = ResolvedDestination(
            stream=self.target,
            write=self.write,
            replace_strategy=to.replace_strategy if self.write == "replace" else "delete_insert",
            key=self.key if self.write == "merge" else (),
            version_field=self._of_a_merge(to.version_field),
            delete_when=self._of_a_merge(to.delete_when),
            chunk_rows=to.chunk_rows if self.read == "incremental" else None,
            schema_policy=to.schema_policy,
            connector_id=to.connector_id,
            connector_name=to.connector_name,
            connector_type=to.connector_type,
            input=CHOSEN if chosen else SOURCE,
        )
        return ResolvedPipeline(
            name=whole.name,
            sources={SOURCE: source},
            transformations=chosen,
            destinations=(destination,),
            on_rejected=whole.on_rejected,
            approved=whole.approved,
        )

    def _chosen(self) -> tuple[ResolvedTransformation, ...]:
        if not self.columns and not self.drop:
            return ()
        step = SelectStep(select=self.columns) if self.columns else DropStep(drop=self.drop)
        return (ResolvedTransformation(name=CHOSEN, inputs=(SOURCE,), steps=(step,)),)

    def _of_a_merge(self, field: str | None) -> str | None:
        return field if self.write == "merge" and field in self.fields else None


class Streams(BaseModel):
    """All of a run. Kept in its folder, so that every attempt is about the same streams."""

    model_config = ConfigDict(frozen=True)

    planned: tuple[Planned, ...]
    warnings: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        beside = folder / f"{RECORD}.new"
        beside.write_text(self.model_dump_json())
        beside.rename(folder / RECORD)

    @classmethod
    def kept(cls, folder: Path) -> "Streams | None":
        """As an attempt before this one has planned them here."""
        record = folder / RECORD
        return cls.model_validate_json(record.read_bytes()) if record.exists() else None


@dataclass(frozen=True)
class Ends:
    """The two connector types, which have to be able to do what is wished."""

    source: ConnectorType
    destination: ConnectorType

    @classmethod
    def of(cls, replicate: ResolvedReplicate) -> "Ends":
        ends = cls(connector_type(replicate.from_.connector_type), connector_type(replicate.to.connector_type))
        if ends.source.naming is None:
            raise Invalid(
                "replicate-unsupported", f"Connectors of type {ends.source.name} have no schema to replicate."
            )
        if ends.destination.naming is None or ends.destination.naming.within is None:
            detail = f"Connectors of type {ends.destination.name} have no schema that streams could be put into."
            raise Invalid("replicate-unsupported", detail)
        able = [mode.mode.value for mode in ends.destination.write_modes]
        wished = (replicate.to.write, *(one.write for one in replicate.overrides.values() if one.write is not None))
        if unable := [write for write in wished if write not in able]:
            detail = f"Connectors of type {ends.destination.name} cannot {unable[0]}, only {', '.join(able)}."
            raise Invalid("write-mode-unknown", detail)
        return ends

    def target(self, stream: str, into: str) -> str:
        """What a stream is called at the destination."""
        naming, made = self.source.naming, self.destination.naming
        assert naming is not None and made is not None and made.within is not None  # noqa: S101, PT018  (see `of`)
        schema, name = naming.parts(stream)
        return made.within(into.replace("{schema}", schema), name)


@dataclass(frozen=True)
class Since:
    """What came and went since the last good run, which loaded the streams `known`; nothing where there was none."""

    new: Sequence[str]
    ignored: Sequence[str]
    vanished: Sequence[str]

    @classmethod
    def of(cls, replicate: ResolvedReplicate, found: Found, known: Collection[str]) -> "Since":
        meant, names = Patterns.of(replicate.from_.streams), {stream.name for stream in found.streams}
        vanished = sorted(name for name in known if name not in names and meant.fit(name))
        new = sorted(names - set(known)) if known else []
        return cls(new, new if replicate.on_new == "ignore" else (), vanished)


def plan(replicate: ResolvedReplicate, found: Found, known: Collection[str]) -> Streams:
    """`known` are the streams that the last good run loaded. Raises what forbids the whole run."""
    ends = Ends.of(replicate)
    since = Since.of(replicate, found, known)
    warnings = [
        *(f"No stream of {replicate.from_.connector_name} fits {pattern!r}." for pattern in found.idle),
        *_strangers(replicate, {stream.name for stream in found.streams}),
        *_policies(replicate, since.new, since.vanished),
    ]
    taken = [one for one in found.streams if one.name not in since.ignored]
    if len(taken) > MOST_STREAMS:
        detail = f"{len(taken)} streams fit the patterns, and a run takes {MOST_STREAMS}: part them into pipelines."
        raise Invalid("replicate-too-many", detail)
    if not taken:
        fit = ", ".join(replicate.from_.streams)
        raise Invalid("replicate-nothing", f"No stream of {replicate.from_.connector_name} fits {fit}.")
    streams = tuple(planned(replicate, ends, stream) for stream in taken)
    _must_not_meet(replicate, streams)
    return Streams(planned=streams, warnings=tuple(warnings))


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _strangers(replicate: ResolvedReplicate, names: Collection[str]) -> Iterable[str]:
    """What is said of streams that are not there."""
    there = {name for stream in names for name in names_of(stream)}
    if unknown := [name for name in replicate.overrides if name not in there]:
        yield f"{replicate.from_.connector_name} has no {listed(unknown)}, of which overrides speak."


def _policies(replicate: ResolvedReplicate, new: Sequence[str], vanished: Sequence[str]) -> Iterable[str]:
    """What is to be said of streams that came and went; raises Conflict where the run is to fail."""
    if new and replicate.on_new == "fail":
        raise Conflict("replicate-new", f"There are streams that the last good run did not load: {listed(new)}.")
    if vanished and replicate.on_vanished == "fail":
        raise Conflict("replicate-vanished", f"Streams that the last good run loaded are gone: {listed(vanished)}.")
    if replicate.on_new == "ignore":
        yield from (f"{name} is new and was not loaded, as on_new says." for name in new)
    yield from (vanished_warning(name) for name in vanished)


def vanished_warning(stream: str) -> str:
    return f"{stream} is not there any more; what was loaded of it stays at the destination."


def remarks(replicate: ResolvedReplicate, planned: Sequence[Planned]) -> Iterable[str]:
    """Which streams are read and written otherwise than wished; a line a reason, however many they are."""
    fields = ", ".join(replicate.from_.cursor_field)
    if whole := [one.stream for one in planned if one.remark == "read whole"]:
        yield f"Read whole, for want of a cursor field ({fields}): {listed(whole)}."
    if replaced := [one.stream for one in planned if one.remark == "replaced"]:
        yield f"Read whole and replaced, for want of a primary key to merge by: {listed(replaced)}."


def planned(replicate: ResolvedReplicate, ends: Ends, stream: StreamInfo) -> Planned:
    """What becomes of that one."""
    mine, override = replicate.of(stream.name), replicate.override(stream.name) or Override()
    try:
        target = ends.target(stream.name, mine.to.into)
    except Invalid as error:
        return Planned(stream=stream.name, target=stream.name, error=_error(error.code, error.detail))
    key = override.key or stream.primary_key
    fields = ({mine.to.version_field, mine.to.delete_when} - set(key)).intersection(stream.schema.names)
    one = Planned(
        stream=stream.name,
        target=target,
        key=key,
        primary_key=stream.primary_key,
        columns=override.columns or (),
        drop=override.drop or (),
        fields=fields,
    )
    one = _modes(mine, ends, stream, one)
    return one if one.error is not None else _with_fields(one, override, stream)


def _with_fields(one: Planned, override: Override, stream: StreamInfo) -> Planned:
    """Fails where a field that is named for it, or by which it is merged, would not be there."""
    if missing := [name for name in override.named if name not in stream.schema.names]:
        detail = f"{one.stream} has no field {listed(missing)}, which its override names."
        return one.model_copy(update={"error": _error("replicate-no-field", detail)})
    needed = (*one.key, *sorted(one.fields)) if one.write == "merge" else ()
    if left_out := [name for name in needed if not override.writes(name)]:
        detail = f"{one.stream} is merged by {listed(left_out)}, which its override leaves out."
        return one.model_copy(update={"error": _error("replicate-no-field", detail)})
    return one


def _modes(replicate: ResolvedReplicate, ends: Ends, stream: StreamInfo, one: Planned) -> Planned:
    """As wished, or the way that loses and doubles nothing where a cursor or a key is wanting."""
    came, to = replicate.from_, replicate.to
    cursor = next((name for name in came.cursor_field if name in stream.cursor_fields), None)
    wished: dict[str, object] = {"read": came.read, "write": to.write}
    if came.read == "incremental" and (cursor is None or Mode.INCREMENTAL not in ends.source.read_modes):
        if came.without_cursor == "fail" or to.write == "append":
            detail = f"{one.stream} has none of the fields {', '.join(came.cursor_field)} to go on from."
            return one.model_copy(update={"error": _error("replicate-no-cursor", detail)})
        wished |= {"read": "full_refresh", "remark": "read whole"}
    elif came.read == "incremental":
        wished |= {"cursor_field": cursor}
    if to.write == "merge" and not one.key:
        if to.without_key == "fail":
            detail = f"{one.stream} declares no primary key to merge by."
            return one.model_copy(update={"error": _error("replicate-no-key", detail)})
        wished |= {"read": "full_refresh", "write": "replace", "cursor_field": None, "remark": "replaced"}
    return one.model_copy(update=wished)


def _error(code: str, detail: str) -> RunError:
    return RunError(code=code, detail=detail, help=help_section(code), stage=SOURCE)


def _must_not_meet(replicate: ResolvedReplicate, planned: Sequence[Planned]) -> None:
    """Two streams of one name would replace each other, and one that goes into itself would first be emptied."""
    by_target: Mapping[str, list[str]] = defaultdict(list)
    for one in planned:
        by_target[one.target].append(one.stream)
    if meeting := {target: streams for target, streams in by_target.items() if len(streams) > 1}:
        named = [f"{' and '.join(streams)} into {target}" for target, streams in meeting.items()]
        raise Conflict("replicate-target-twice", f"Several streams would go into one: {listed(named)}.")
    itself = [one.stream for one in planned if one.stream == one.target]
    if itself and replicate.from_.connector_id == replicate.to.connector_id:
        raise Conflict("replicate-into-itself", f"Streams would be read and written at once: {listed(itself)}.")
