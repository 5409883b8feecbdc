"""join: another input beside the rows, by equal fields. Law: of each input, read = matched + unmatched.

How many pairs there are is counted by key, apart from the join itself, and must be what the join wrote.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from dataaggregator.contracts.steps import JoinStep
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.collected import Collecting, restored
from dataaggregator.dataplane.steps.engine import quote
from dataaggregator.dataplane.steps.names import distinct, free, known, position
from dataaggregator.errors import Permanent

_JOINS = {"inner": "JOIN", "left": "LEFT JOIN", "full": "FULL JOIN", "anti": "ANTI JOIN"}


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
        for name in self._join.on:
            here, there = kinds[0][name], kinds[1][name]
            numbers = all(_number(one.field(position(one, name)).type) for one in (schema, other))
            if here != there and not (numbers and self._join.how != "full"):
                message = f"{name} is {here} here and {there} in {self._with}; cast one of them first"
                raise self.setting.place("join.on").invalid("definition-invalid", message)

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
        with self.timed():
            expected = self._count()
        for batch in self.setting.engine.stream(self._sql, {}, self.setting.place("join")):
            self.tally.written += batch.num_rows
            yield restored(batch, self.schema)
        if self.tally.written != expected:
            raise Permanent(
                "unbalanced", f"{self.setting.stage}: wrote {self.tally.written} rows where {expected} were counted"
            )
        self.release()

    def _count(self) -> int:
        """Count matched, unmatched and pairs by key, judge `expect`; gives the rows the join must write."""
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
        matched, with_matched, pairs, many_here, many_there = row
        unmatched = self.read[self._flow] - matched
        with_unmatched = self.read[self._with] - with_matched
        self.tally.read = self.read[self._flow]
        self.tally.inputs = {
            self._flow: InputCounts(self.read[self._flow], matched, unmatched),
            self._with: InputCounts(self.read[self._with], with_matched, with_unmatched),
        }
        self.tally.fan_out = 0 if self._join.how == "anti" else pairs - matched
        self._expect(many_here, many_there)
        match self._join.how:
            case "inner":
                return int(pairs)
            case "left":
                return int(pairs + unmatched)
            case "full":
                return int(pairs + unmatched + with_unmatched)
            case "anti":
                return int(unmatched)

    def _expect(self, many_here: int, many_there: int) -> None:
        expect, on = self._join.expect, ", ".join(self._join.on)
        found = []
        if many_there and expect in ("one_to_one", "many_to_one"):
            found.append(f"{many_there} values of {on} stand in more than one row of {self._with}")
        if many_here and expect in ("one_to_one", "one_to_many"):
            found.append(f"{many_here} values of {on} stand in more than one row of {self._flow}")
        if found:
            message = f"{expect} was expected, but {' and '.join(found)}; make the key unique or say expect: any"
            raise self.setting.place("join.expect").invalid("join-fan-out", message)


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_decimal(kind)
