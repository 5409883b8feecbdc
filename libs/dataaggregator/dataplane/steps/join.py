"""join: another input beside the rows, by equal fields. Law: of each input, read = matched + unmatched.

How many pairs there are is counted by key, apart from the join itself, and must be what the join wrote.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from dataaggregator.contracts.steps import JoinStep
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.collected import Collecting, restored
from dataaggregator.dataplane.steps.engine import quote
from dataaggregator.dataplane.steps.names import distinct, free, known, position
from dataaggregator.errors import Permanent

_JOINS = {"inner": "JOIN", "left": "LEFT JOIN", "full": "FULL JOIN", "anti": "ANTI JOIN"}


class _Found(NamedTuple):
    """Rows of either input that have a partner, the pairs they make, and keys with more than one row on each side."""

    matched: int = 0
    with_matched: int = 0
    pairs: int = 0
    many_here: int = 0
    many_there: int = 0

    def and_also(self, other: "_Found") -> "_Found":
        return _Found(*map(sum, zip(self, other, strict=True)))


class Join(Collecting):
    """A null in a key matches nothing."""

    kind = "join"

    def __init__(self, step: JoinStep, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]) -> None:
        self._join = step.join
        self._flow, self._with = next(iter(inputs)), step.join.with_
        other = inputs[self._with]
        place = setting.place("join.on")
        known(step.join.on, schema, place)
        known(step.join.on, other, setting.place("join.on"))
        super().__init__(setting, schema, {self._flow: schema, self._with: other})
        self._keys_comparable(schema, other)
        if step.join.how != "anti":
            added = [field for field in other if field.name not in step.join.on]
            distinct([*schema.names, *(field.name for field in added)], setting.place("join.with"))
            self.schema = pa.schema([*schema, *added])
        self._sql = self._statement(other)

    def _keys_comparable(self, schema: pa.Schema, other: pa.Schema) -> None:
        kinds = [self.setting.engine.types_of(one) for one in (schema, other)]
        keys = []
        for name in self._join.on:
            here, there = kinds[0][name], kinds[1][name]
            numbers = all(_number(one.field(position(one, name)).type) for one in (schema, other))
            if here != there and not (numbers and self._join.how != "full"):
                message = f"{name} is {here} here and {there} in {self._with}; cast one of them first"
                raise self.setting.place("join.on").invalid("definition-invalid", message)
            # Equal numbers of two types have the same whole part.
            keys.append(quote(name) if here == there else f"CAST({quote(name)} AS DECIMAL(38,0))")
        self.gathered.part_by({self._flow: keys, self._with: keys})

    def _statement(self, other: pa.Schema) -> str:
        full = self._join.how == "full"
        on = " AND ".join(f"f.{quote(name)} = w.{quote(name)}" for name in self._join.on)
        columns = []
        for name in self.schema.names:
            if name in self._join.on and full:
                columns.append(f"coalesce(f.{quote(name)}, w.{quote(name)})")
            elif name in self.inputs[self._flow].names:
                columns.append(f"f.{quote(name)}")
            elif name in other.names:
                columns.append(f"w.{quote(name)}")
        flow, with_ = self.tables[self._flow], self.tables[self._with]
        return f"SELECT {', '.join(columns)} FROM {flow} f {_JOINS[self._join.how]} {with_} w ON {on}"

    def give(self) -> Iterator[pa.RecordBatch]:
        found = _Found()
        for _ in self.gathered.portions():
            with self.timed():
                found = found.and_also(self._count())
            if self._unexpected(found):
                continue  # this fails: what is left is only counted
            for batch in self.setting.engine.stream(self._sql, {}, self.setting.place("join"), self.batch_rows()):
                self.tally.written += batch.num_rows
                yield restored(batch, self.schema)
        self._expect(found)
        self._balance(found)
        self.gathered.release()

    def _count(self) -> _Found:
        """Count matched rows and pairs by key."""
        keys = ", ".join(quote(name) for name in self._join.on)
        n = free(self._join.on, "n")
        sides = [
            f"(SELECT {keys}, count(*) AS {n} FROM {self.tables[name]} GROUP BY ALL)"
            for name in (self._flow, self._with)
        ]
        row = self.setting.engine.row(
            f"SELECT coalesce(sum(f.{n}), 0)::BIGINT, coalesce(sum(w.{n}), 0)::BIGINT, "
            f"coalesce(sum(f.{n}::HUGEINT * w.{n}), 0)::BIGINT, "
            f"count(*) FILTER (f.{n} > 1), count(*) FILTER (w.{n} > 1) "
            f"FROM {sides[0]} f JOIN {sides[1]} w USING ({keys})",
            self.setting.place("join"),
        )
        return _Found(*row)

    def _balance(self, found: _Found) -> None:
        """Tell what was counted, and hold what was written against it."""
        read, with_read = self.read[self._flow], self.read[self._with]
        unmatched, with_unmatched = read - found.matched, with_read - found.with_matched
        self.tally.read = read
        self.tally.inputs = {
            self._flow: InputCounts(read, found.matched, unmatched),
            self._with: InputCounts(with_read, found.with_matched, with_unmatched),
        }
        self.tally.fan_out = 0 if self._join.how == "anti" else found.pairs - found.matched
        expected = {
            "inner": found.pairs,
            "left": found.pairs + unmatched,
            "full": found.pairs + unmatched + with_unmatched,
            "anti": unmatched,
        }[self._join.how]
        if self.tally.written != expected:
            raise Permanent(
                "unbalanced", f"{self.setting.stage}: wrote {self.tally.written} rows where {expected} were counted"
            )

    def _unexpected(self, found: _Found) -> list[str]:
        expect, on = self._join.expect, ", ".join(self._join.on)
        told = []
        if found.many_there and expect in ("one_to_one", "many_to_one"):
            told.append(f"{found.many_there} values of {on} stand in more than one row of {self._with}")
        if found.many_here and expect in ("one_to_one", "one_to_many"):
            told.append(f"{found.many_here} values of {on} stand in more than one row of {self._flow}")
        return told

    def _expect(self, found: _Found) -> None:
        if told := self._unexpected(found):
            message = f"{self._join.expect} was expected, but {' and '.join(told)}"
            raise self.setting.place("join.expect").invalid(
                "join-fan-out", f"{message}; make the key unique or say expect: any"
            )


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_decimal(kind)
