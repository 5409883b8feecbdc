"""Two definitions held against each other: which steps are others, and which rows they give. Pure."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.dry_run import Change, RowDifference, RowExample
from dataaggregator.dataplane.dry_run.foreseeing import Drawn
from dataaggregator.dataplane.showing import a_page, rows_as_json

EXAMPLES = 20
Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A stage as it is written: what tells it from the others around it, and its text."""

    stage: str
    kind: str
    label: tuple[str, str]
    text: str


Pair = tuple[Change, Line | None, Line | None]


def lines_of(drawn: Drawn) -> list[Line]:
    """Sources, steps and destinations in the order of the ledger; a transformation's inputs count to its first step."""
    definition, plan = drawn.definition, drawn.plan
    found = []
    for source in plan.sources:
        text = definition.sources[source.source].model_dump_json()
        found.append(Line(source.name, source.kind, ("source", source.name), text))
    for node in plan.transforms:
        names = [step.name for step in node.steps] or [None]
        texts = [step.model_dump_json() for step in node.steps] or [json.dumps(node.keep)]
        texts[0] += json.dumps(node.inputs)
        for (stage, kind), name, text in zip(node.stages, names, texts, strict=True):
            found.append(Line(stage, kind, (node.name, name or kind), text))
    for name, one in zip(drawn.names, definition.destinations, strict=True):
        found.append(Line(name, "destination", ("destination", name), one.model_dump_json()))
    return found


def aligned(current: Sequence[Line], proposed: Sequence[Line]) -> Iterator[Pair]:
    """All lines of both, beside each other where they are equal, or stand for the same between such."""
    before, after = ([(line.label[0], line.text) for line in lines] for lines in (current, proposed))
    for tag, i, to_i, j, to_j in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            for one, other in zip(current[i:to_i], proposed[j:to_j], strict=True):
                yield "same", one, other
        else:
            yield from _paired(current[i:to_i], proposed[j:to_j])


def _paired(current: Sequence[Line], proposed: Sequence[Line]) -> Iterator[Pair]:
    for line in proposed:
        at = next((at for at, one in enumerate(current) if one.label == line.label), None)
        if at is None:
            yield "added", None, line
            continue
        for one in current[:at]:
            yield "removed", one, None
        yield "changed", current[at], line
        current = current[at + 1 :]
    for one in current:
        yield "removed", one, None


def fields(current: pa.Schema | None, proposed: pa.Schema | None) -> Iterator[SchemaDifference]:
    """Nothing where one of them is not known."""
    if current is None or proposed is None:
        return
    before, after = ({field.name: str(field.type) for field in schema} for schema in (current, proposed))
    for name in before | after:
        if name not in after:
            yield SchemaDifference(kind="removed", field=name, before=before[name])
        elif name not in before:
            yield SchemaDifference(kind="added", field=name, after=after[name])
        elif before[name] != after[name]:
            yield SchemaDifference(kind="changed", field=name, before=before[name], after=after[name])


def compare(
    current: pa.Table, proposed: pa.Table, key: Sequence[str], version_field: str | None, *, show: bool
) -> RowDifference | None:
    """By the key where both have its fields, else row by row; None where they have no field in common.

    Among rows of one key that one counts that a merge would keep.
    """
    common = [name for name in current.column_names if name in proposed.column_names]
    if not common:
        return None
    if key and set(key) <= set(common):
        before, after = (_by_key(table, common, key, version_field) for table in (current, proposed))
        return _keyed(before, after, key, show=show)
    before_rows, after_rows = (Counter(map(_text, rows_as_json(table.select(common)))) for table in (current, proposed))
    return _whole(before_rows, after_rows, common, show=show)


def _by_key(table: pa.Table, common: Sequence[str], key: Sequence[str], version_field: str | None) -> dict[str, Row]:
    """The last read of a key, or the one with the highest version."""
    if version_field in table.column_names:
        with contextlib.suppress(pa.ArrowTypeError):  # of a uuid, say: then the last read counts
            keys: Any = [(version_field, "ascending", "at_start")]  # the stubs know two of the three
            table = table.take(pc.sort_indices(table, sort_keys=keys))
    return {_text({name: row[name] for name in key}): row for row in rows_as_json(table.select(common))}


def _keyed(before: Mapping[str, Row], after: Mapping[str, Row], key: Sequence[str], *, show: bool) -> RowDifference:
    both = before.keys() & after.keys()
    other = [one for one in before if one in both and before[one] != after[one]]
    vanished, appeared = [one for one in before if one not in after], [one for one in after if one not in before]
    by_field = Counter(name for one in other for name, value in before[one].items() if value != after[one][name])
    examples = (
        RowExample(key=json.loads(one), current=before.get(one), proposed=after.get(one))
        for one in chain(other, vanished, appeared)
    )
    return RowDifference(
        compared_by=tuple(key),
        same=len(both) - len(other),
        differ=len(other),
        vanish=len(vanished),
        appear=len(appeared),
        by_field=dict(by_field),
        examples=_shown(examples) if show else None,
    )


def _whole(before: Counter[str], after: Counter[str], common: Sequence[str], *, show: bool) -> RowDifference:
    vanished, appeared = before - after, after - before
    examples = chain(
        (RowExample(key={}, current=json.loads(one), proposed=None) for one in vanished),
        (RowExample(key={}, current=None, proposed=json.loads(one)) for one in appeared),
    )
    return RowDifference(
        compared_by=tuple(common),
        same=(before & after).total(),
        differ=0,
        vanish=vanished.total(),
        appear=appeared.total(),
        examples=_shown(examples) if show else None,
    )


def _shown(examples: Iterator[RowExample]) -> tuple[RowExample, ...]:
    page = a_page((one.model_dump() for one in examples), EXAMPLES)
    return tuple(RowExample.model_validate(one) for one in page)


def _text(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)
