"""sql: a SELECT over the inputs by name. What a proof is found for is proven; else `expect` makes it declared."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import SqlStep
from dataaggregator.dataplane import expectation
from dataaggregator.dataplane.compile.parameters import bind
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.collected import Collecting, restored
from dataaggregator.dataplane.steps.engine import quote
from dataaggregator.dataplane.steps.guard import check_query
from dataaggregator.dataplane.steps.names import distinct
from dataaggregator.dataplane.steps.proof import HIDDEN, Proof, Prover, fits
from dataaggregator.dataplane.steps.row_ids import CameBack
from dataaggregator.dataplane.steps.widening import widened
from dataaggregator.errors import Invalid, Permanent


class Sql(Collecting):
    """The flow goes by the name of the transformation's first input."""

    kind = "sql"

    def __init__(self, step: SqlStep, schema: pa.Schema, setting: Setting, inputs: Mapping[str, pa.Schema]) -> None:
        self._flow = next(iter(inputs))
        super().__init__(setting, schema, {**inputs, self._flow: schema})
        self._expect = self.tally.expect = step.expect
        self.accounting = expectation.accounting(step.expect)
        bound = bind(step.sql.rstrip().removesuffix(";"))
        self._values = bound.values(setting.parameters)
        relations = ", ".join(
            f"{quote(name)} AS NOT MATERIALIZED (FROM {table})" for name, table in self.tables.items()
        )
        check_query(setting.engine, bound.sql, frozenset(inputs), setting.place("sql", text=step.sql))
        before = f"WITH {relations} SELECT * FROM (\n"
        place = setting.place("sql", before=before, text=step.sql)
        query = f"{before}{bound.sql}\n)"
        found = setting.engine.bind(query, self._values, place)
        self._written = query, place
        distinct(setting.engine.names(bound.sql, self._values, self.tables, setting.place("sql")), setting.place("sql"))
        self._proof, query = self._proved(bound.sql, query, found, before)
        tail = f" FROM ({query})"
        columns, fields = [], []
        for field in found:
            plain = setting.place("sql")
            column, kind = widened(setting.engine, quote(field.name), tail, self._values, plain)
            columns.append(f"{column} AS {quote(field.name)}")
            fields.append(pa.field(field.name, kind))
        self._sql = f"SELECT {', '.join([*columns, HIDDEN] if self._proof else columns)}{tail}"
        self.schema = pa.schema(fields)

    def _proved(self, sql: str, query: str, found: pa.Schema, before: str) -> tuple[Proof | None, str]:
        """A proof and the query that carries it; over several inputs none would speak of all their rows."""
        if len(self.inputs) > 1:
            return None, query
        engine = self.setting.engine
        proof = Prover(engine, self._flow, self.tables[self._flow], self.inputs[self._flow]).find(sql)
        changed = "" if proof is None else f"{before}{proof.sql}\n)"
        if proof is None or not fits(engine, changed, self._values, found, self.setting.place("sql")):
            return None, query
        self.accounting = "proven"
        return proof, changed

    def give(self) -> Iterator[pa.RecordBatch]:
        read = self.tally.read = self.tally.flow = self.read[self._flow]
        self.tally.inputs = {name: InputCounts(read) for name, read in self.read.items()}
        rows = self._rows()
        if self._proof is None:
            given = rows
        else:
            given = self._by_group(rows, self._proof) if self._proof.grouped else self._by_number(rows)
        for batch in given:
            self.tally.written += batch.num_rows
            yield restored(batch, self.schema)
        expectation.hold(self._expect, read, self.tally.written, self.setting.place("expect"))
        self.gathered.release()

    def _rows(self) -> Iterator[pa.RecordBatch]:
        engine = self.setting.engine
        try:
            yield from engine.stream(self._sql, self._values, self.setting.place("sql"))
        except Invalid:
            query, place = self._written
            for _ in engine.stream(query, self._values, place):  # as it was written, it tells its place
                pass
            raise

    def _by_number(self, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tally, came_back = self.tally, CameBack(self.setting.engine, self.setting.place("sql"))
        for batch in rows:
            came_back.add(batch.column(batch.num_columns - 1))
            yield batch.select(range(batch.num_columns - 1))
        tally.kept, tally.doubled, tally.invented = came_back.count(tally.read)
        tally.filtered["query"] = tally.read - tally.kept

    def _by_group(self, rows: Iterator[pa.RecordBatch], proof: Proof) -> Iterator[pa.RecordBatch]:
        tally, engine, place = self.tally, self.setting.engine, self.setting.place("sql")
        tally.groups, tally.counted = 0, 0
        for batch in rows:
            tally.groups += batch.num_rows
            tally.counted += pc.sum(batch.column(batch.num_columns - 1)).as_py() or 0
            yield batch.select(range(batch.num_columns - 1))
        let_in = tally.read
        if proof.let_in is not None:
            for batch in engine.stream(proof.let_in, proof.values_of(self._values), place):
                let_in = int(pc.sum(batch.column(0)).as_py())
            tally.filtered["where"] = tally.read - let_in
        if tally.counted != let_in:
            told = f"{tally.counted} rows in the groups, {let_in} of {tally.read} were let in"
            raise Permanent("unbalanced", f"{self.setting.stage}: {told}")
