"""Which columns of each source something behind it looks at, by the plan and the sources' schemas alone.

The steps are followed twice: forwards for the fields that each of them meets, backwards for those of them that are
needed. Whatever is not certain needs all columns: a name nobody has (a run tells it as it always did), two fields that
are told apart by their case only, a step whose fields are not known before it has run.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from dataaggregator.contracts.steps import (
    AggregateStep,
    CastStep,
    Check,
    DedupeStep,
    DeriveStep,
    DropStep,
    ExplodeStep,
    FilterStep,
    FlattenStep,
    JoinStep,
    MaskStep,
    PythonStep,
    RenameStep,
    SelectStep,
    SqlStep,
    Step,
    ValidateStep,
    direction,
)
from dataaggregator.dataplane.compile.plan import Plan, TransformNode
from dataaggregator.dataplane.steps.types import taken

Fields = Mapping[str, pa.DataType | None]
"""In their order, each with its type as far as the source has said it."""
WHOLE_ROW = re.compile(r"rows_at_hand|collected_", re.IGNORECASE)
"""What the engine calls the rows of a step: an expression may take a row as one value, by this name."""


class UncertainError(Exception):
    """Nobody can say which columns are needed."""


def needed(plan: Plan, schemas: Mapping[str, pa.Schema]) -> Mapping[str, tuple[str, ...]]:
    """By source node the names of the columns to read, in the schema's order; one at least."""
    everything = {node.name: tuple(schemas[node.name].names) for node in plan.sources}
    try:
        wanted = _Backwards(plan, schemas).wanted()
    except UncertainError:
        return everything
    return {
        name: tuple(one for one in names if one in wanted[name]) or (_smallest(_of_schema(schemas[name])),)
        for name, names in everything.items()
    }


def _smallest(fields: Fields) -> str:
    """Of rows that are counted and nothing else."""
    bits = {
        name: kind.bit_width
        for name, kind in fields.items()
        if kind is not None and (pa.types.is_integer(kind) or pa.types.is_boolean(kind))
    }
    return min(bits or fields, key=lambda name: bits.get(name, 0))


def mentioned(texts: Iterable[str], fields: Iterable[str]) -> set[str]:
    """The fields that expressions may look at: those whose names are spelled in them, wherever.

    To look at a field without its name an expression would need a star, which it may not have, or the whole row.
    """
    written = "\n".join(texts).casefold()
    if WHOLE_ROW.search(written):
        raise UncertainError
    return {name for name in fields if _spelled(name.casefold().replace('"', '""'), written)}


def _spelled(name: str, written: str) -> bool:
    """By itself: not as a part of a longer word."""
    return name in written and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", written) is not None


class _Backwards:
    def __init__(self, plan: Plan, schemas: Mapping[str, pa.Schema]) -> None:
        self._plan = plan
        self._fields: dict[str, Fields | None] = {
            node.name: _told_apart(_of_schema(schemas[node.name])) for node in plan.sources
        }
        self._met = {node.name: self._follow(node) for node in plan.transforms}
        self._wanted: dict[str, set[str] | None] = {name: set() for name in self._fields}
        """By node; None is everything it gives."""

    def _follow(self, node: TransformNode) -> Sequence[Fields | None]:
        """What each step meets, and at the end what leaves the last; None where it is not known."""
        met = [self._fields[node.inputs[0]]]
        for step in node.steps:
            here = met[-1]
            met.append(None if here is None else _told_apart(_behind(step, here, self._fields)))
        self._fields[node.name] = met[-1]
        return met

    def wanted(self) -> Mapping[str, set[str]]:
        """Destinations take everything that reaches them; the rest follows from the steps, the last one first."""
        for destination in self._plan.destinations:
            self._wanted[destination.input] = None
        for node in reversed(self._plan.transforms):
            self._before(node)
        return {node.name: self._of(node.name, self._fields[node.name]) for node in self._plan.sources}

    def _of(self, name: str, fields: Fields | None) -> set[str]:
        wanted = self._wanted[name]
        if wanted is None and fields is None:
            raise UncertainError
        return set(fields or ()) if wanted is None else wanted

    def _before(self, node: TransformNode) -> None:
        if node.keep:  # what is kept is kept whole
            for name in node.inputs:
                self._wanted[name] = None
            return
        met, whole = self._met[node.name], set(_origins(node.steps))
        wanted = self._wanted.get(node.name)
        for at in reversed(range(len(node.steps))):
            fields = met[at]
            if fields is None:
                self._whole_beside(node)
                wanted = None
            else:
                found = self._through(node, at, fields, wanted)
                wanted = set(fields) if at in whole else found
        self._add(node.inputs[0], wanted)

    def _through(self, node: TransformNode, at: int, fields: Fields, wanted: set[str] | None) -> set[str]:
        step, behind = node.steps[at], self._met[node.name][at + 1]
        if isinstance(step, SqlStep | PythonStep):
            self._whole_beside(node)
            return set(fields)
        if isinstance(step, JoinStep):
            return self._through_join(step, fields, set(behind) if wanted is None and behind is not None else wanted)
        if wanted is None:
            if behind is None:
                raise UncertainError
            wanted = set(behind)
        if isinstance(step, DropStep) and not wanted and behind:
            wanted = {_smallest(behind)}  # it refuses to leave none
        return _looked_at(step, fields, wanted)

    def _through_join(self, step: JoinStep, fields: Fields, wanted: set[str] | None) -> set[str]:
        other, on = self._fields[step.join.with_], set(step.join.on)
        if other is None or wanted is None:
            self._add(step.join.with_, None)
            return set(fields)
        beside = set() if step.join.how == "anti" else wanted & set(other)
        self._add(step.join.with_, (beside - set(fields)) | on)
        return wanted & set(fields) | on

    def _whole_beside(self, node: TransformNode) -> None:
        for name in node.inputs[1:]:
            self._add(name, None)

    def _add(self, name: str, wanted: set[str] | None) -> None:
        before = self._wanted.get(name, set())
        self._wanted[name] = None if before is None or wanted is None else before | wanted


def _origins(steps: Sequence[Step]) -> Iterable[int]:
    """Where the rows stood as they are set aside, by the steps that may do so: at the first step of the transformation,
    or behind the last one before that makes new rows. All their fields are for the quarantine, and for a replay."""
    first = 0
    for at, step in enumerate(steps):
        if _sets_aside(step):
            yield first
        if step.set_wise or isinstance(step, ExplodeStep | MaskStep):
            first = at + 1


def _sets_aside(step: Step) -> bool:
    match step:
        case CastStep():
            return any(cast.on_error == "reject" for cast in step.cast.values())
        case ValidateStep():
            return any(rule.on_fail == "reject" for rule in step.rules)
    return False


def _looked_at(step: Step, fields: Fields, wanted: set[str]) -> set[str]:
    """Of the fields a step meets those that it looks at, and those of `wanted` that were there before."""
    looked_at = _named(step) | mentioned(_texts(step), fields)
    match step:
        case SelectStep() | AggregateStep():
            return looked_at
        case RenameStep():
            before = {new: old for old, new in step.rename.items()}
            return {before.get(name, name) for name in wanted} | looked_at
    return wanted & set(fields) | looked_at


def _named(step: Step) -> set[str]:
    """The fields that a step names outside of expressions; raises UncertainError for a kind that is not known here."""
    match step:
        case FilterStep() | DeriveStep():
            return set()
        case SelectStep() | DropStep() | RenameStep() | CastStep() | MaskStep():
            return set(getattr(step, step.kind))
        case FlattenStep() | ExplodeStep():
            return {getattr(step, step.kind).field}
        case ValidateStep():
            return set(_checked(step))
        case DedupeStep():
            return {*step.dedupe.key, *(direction(word)[0] for word in step.dedupe.order_by)}
        case AggregateStep():
            return set(step.aggregate.by)
    raise UncertainError


def _texts(step: Step) -> Iterable[str]:
    match step:
        case FilterStep():
            return [step.filter]
        case DeriveStep():
            return step.derive.values()
        case ValidateStep():
            return [rule.check.sql for rule in step.rules if rule.check.sql is not None]
        case AggregateStep():
            return step.aggregate.measures.values()
    return ()


def _checked(step: ValidateStep) -> Iterable[str]:
    for rule in step.rules:
        yield from _fields_of(rule.check)


def _fields_of(check: Check) -> tuple[str, ...]:
    one = check.in_ or check.range or check.regex
    return check.not_null or check.unique or ((one.field,) if one else ())


@dataclass
class _Named:
    """Fields that are made anew, each name once and of known ones."""

    fields: Fields
    found: dict[str, pa.DataType | None] = field(default_factory=dict)

    def known(self, names: Iterable[str]) -> None:
        if any(name not in self.fields for name in names):
            raise UncertainError

    def put(self, name: str, kind: pa.DataType | None) -> None:
        if name in self.found:
            raise UncertainError
        self.found[name] = kind


def _behind(step: Step, fields: Fields, inputs: Mapping[str, Fields | None]) -> Fields | None:
    """The fields behind a step; raises UncertainError where the step itself would refuse those before it."""
    made = _Named(fields)
    match step:
        case SqlStep() | PythonStep():
            return None
        case JoinStep():
            return _joined(step, made, inputs[step.join.with_])
        case FlattenStep():
            return _flattened(step, made)
        case AggregateStep():
            made.known(step.aggregate.by)
            for name in (*step.aggregate.by, *step.aggregate.measures):
                made.put(name, fields.get(name) if name in step.aggregate.by else None)
            return made.found
        case SelectStep():
            made.known(step.select)
            for name in step.select:
                made.put(name, fields[name])
            return made.found
        case RenameStep():
            made.known(step.rename)
            for name, kind in fields.items():
                made.put(step.rename.get(name, name), kind)
            return made.found
    made.known(_looked_at(step, fields, set()))
    return _changed(step, fields)


def _changed(step: Step, fields: Fields) -> Fields:
    """What other steps make of the fields: they take some away, or set some."""
    match step:
        case DropStep():
            return {name: kind for name, kind in fields.items() if name not in step.drop}
        case CastStep():
            return {**fields, **dict.fromkeys(step.cast)}
        case DeriveStep():
            return {**fields, **dict.fromkeys(step.derive)}
        case MaskStep():
            return {**fields, **dict.fromkeys(step.mask)}
        case ExplodeStep():
            return {**fields, step.explode.field: None}
    return fields


def _joined(step: JoinStep, made: _Named, other: Fields | None) -> Fields | None:
    made.known(step.join.on)
    if other is None:
        return None
    if any(name not in other for name in step.join.on):
        raise UncertainError
    if not all(kind is None or taken(kind) for kind in (*made.fields.values(), *other.values())):
        raise UncertainError  # it refuses rows with such a field, whether it looks at that one or not
    added = {} if step.join.how == "anti" else {name: other[name] for name in other if name not in step.join.on}
    for name, kind in (*made.fields.items(), *added.items()):
        made.put(name, kind)
    return made.found


def _flattened(step: FlattenStep, made: _Named) -> Fields:
    """Of a struct whose fields the source has said; another one's are not known before the steps are bound."""
    name = step.flatten.field
    made.known([name])
    inside = made.fields[name]
    if inside is None or not pa.types.is_struct(inside):
        raise UncertainError
    prefix = f"{name}_" if step.flatten.prefix is None else step.flatten.prefix
    for one, kind in made.fields.items():
        for new, type_ in [(f"{prefix}{part.name}", part.type) for part in inside] if one == name else [(one, kind)]:
            made.put(new, type_)
    return made.found


def _of_schema(schema: pa.Schema) -> Fields:
    if len(set(schema.names)) < len(schema.names):
        raise UncertainError
    return {one.name: one.type for one in schema}


def _told_apart(fields: Fields | None) -> Fields | None:
    """The engine's names know no case: where two differ in nothing else, a step refuses all rows."""
    if fields is not None and (not fields or len({name.casefold() for name in fields}) < len(fields)):
        raise UncertainError
    return fields
