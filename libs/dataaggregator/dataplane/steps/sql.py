"""sql: a SELECT over the inputs by name. No law can be proved for it; `expect` makes its accounting declared."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from dataaggregator.contracts.steps import SqlStep
from dataaggregator.dataplane import expectation
from dataaggregator.dataplane.compile.parameters import bind
from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.collected import Collecting, restored
from dataaggregator.dataplane.steps.engine import quote
from dataaggregator.dataplane.steps.guard import check_query
from dataaggregator.dataplane.steps.names import distinct
from dataaggregator.dataplane.steps.widening import widened


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
        distinct(setting.engine.names(bound.sql, self._values, self.tables, setting.place("sql")), setting.place("sql"))
        tail = f" FROM ({query})"
        columns, fields = [], []
        for field in found:
            plain = setting.place("sql")
            column, kind = widened(setting.engine, quote(field.name), tail, self._values, plain)
            columns.append(f"{column} AS {quote(field.name)}")
            fields.append(pa.field(field.name, kind))
        self._sql = f"SELECT {', '.join(columns)}{tail}"
        self.schema = pa.schema(fields)

    def give(self) -> Iterator[pa.RecordBatch]:
        read = self.tally.read = self.tally.flow = self.read[self._flow]
        self.tally.inputs = {name: InputCounts(read) for name, read in self.read.items()}
        for batch in self.setting.engine.stream(self._sql, self._values, self.setting.place("sql")):
            self.tally.written += batch.num_rows
            yield restored(batch, self.schema)
        expectation.hold(self._expect, read, self.tally.written, self.setting.place("expect"))
        self.release()
