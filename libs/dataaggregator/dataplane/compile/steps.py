"""The texts and types in the steps of one transformation, each wrong one as a field error."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from dataaggregator.contracts.parameters import Parameter
from dataaggregator.contracts.steps import (
    AggregateStep,
    CastStep,
    DedupeStep,
    DeriveStep,
    FilterStep,
    JoinStep,
    PythonStep,
    RenameStep,
    SqlStep,
    Step,
    ValidateStep,
    direction,
)
from dataaggregator.dataplane.compile.expressions import check_expression, check_measure, check_query
from dataaggregator.dataplane.compile.parameters import no_parameter
from dataaggregator.dataplane.compile.python import faults, parameters_used
from dataaggregator.dataplane.compile.texts import Text, WrongSqlError, parse_query
from dataaggregator.dataplane.compile.types import engine_type
from dataaggregator.errors import FieldError

Parameters = Mapping[str, Parameter] | None


class StepChecker:
    """Collects what is wrong in a transformation's steps, and which of its inputs they use.

    `parameters` None: not known yet (a transformation saved by itself), so their names are not judged.
    """

    def __init__(self, inputs: tuple[str, ...] | None, parameters: Parameters) -> None:
        self._inputs = inputs
        self._parameters = parameters
        self.errors: list[FieldError] = []
        self.used: set[str] = set()

    def check(self, step: Step, path: str) -> None:
        """One step, standing at `path`."""
        match step:
            case AggregateStep():
                self._aggregate(step, f"{path}.aggregate.measures")
            case CastStep():
                for name, cast in step.cast.items():
                    self._type(f"{path}.cast.{name}", cast.type)
            case RenameStep():
                for name in _twice(step.rename.values()):
                    self._wrong(f"{path}.rename", f"two fields would be named {name}", "twice")
            case DedupeStep():
                self._once(f"{path}.dedupe.key", step.dedupe.key)
                self._once(f"{path}.dedupe.order_by", (direction(word)[0] for word in step.dedupe.order_by))
            case JoinStep():
                self._join(step, f"{path}.join.with")
            case SqlStep():
                self._query(step, f"{path}.sql")
            case PythonStep():
                self._python(step, path)
            case _:
                for below, text in _row_texts(step):
                    self._text(f"{path}.{below}", text, check_expression)

    def _aggregate(self, step: AggregateStep, field: str) -> None:
        for name, text in step.aggregate.measures.items():
            self._text(f"{field}.{name}", text, check_measure)
            if name in step.aggregate.by:
                self._wrong(f"{field}.{name}", f"{name} is a field of `by` already", "twice")

    def _wrong(self, field: str, message: str, code: str) -> None:
        self.errors.append(FieldError(field, message, code))

    def _once(self, field: str, names: Iterable[str]) -> None:
        for name in _twice(names):
            self._wrong(field, f"{name} is named twice; once is enough", "twice")

    def _text(self, field: str, text: str, check: Callable[[str], Text]) -> None:
        try:
            self._names(field, check(text))
        except WrongSqlError as error:
            self.errors.append(error.told(field))

    def _names(self, field: str, text: Text) -> None:
        for name in text.bound.names:
            self._parameter(field, name)

    def _parameter(self, field: str, name: str, where: str = "") -> None:
        if self._parameters is None or name in self._parameters:
            return
        self._wrong(field, f"{where}{no_parameter(name, self._parameters)}", "unknown-name")

    def _type(self, field: str, word: str) -> None:
        try:
            engine_type(word)
        except ValueError as error:
            self._wrong(field, str(error), "type")

    def _join(self, step: JoinStep, field: str) -> None:
        name = step.join.with_
        self.used.add(name)
        if self._inputs is None:
            self._wrong(field, "a join needs `inputs`: the rows that flow first, then what is joined", "missing-field")
        elif name == self._inputs[0]:
            self._wrong(field, f"{name} is what flows here; join one of the other inputs", "unknown-name")
        elif name not in self._inputs:
            self._wrong(field, f"{name} is not among the inputs: {', '.join(self._inputs)}", "unknown-name")

    def _query(self, step: SqlStep, field: str) -> None:
        if self._inputs is None:
            self._text(field, step.sql, parse_query)
            return
        try:
            text, read = check_query(step.sql, self._inputs)
            self._names(field, text)
            self.used |= {name for name in self._inputs if name.lower() in read}
        except WrongSqlError as error:
            self.used |= set(self._inputs)  # what it would have read is not known
            self.errors.append(error.told(field))

    def _python(self, step: PythonStep, path: str) -> None:
        wrong = list(faults(step.python))
        for message in wrong:
            self._wrong(f"{path}.python", message, "python")
        used = {} if wrong else parameters_used(step.python)
        for name, where in used.items():
            self._parameter(f"{path}.python", name, f"{where}: ")
        for name, word in (step.given_schema or {}).items():
            self._type(f"{path}.schema.{name}", word)


def _row_texts(step: Step) -> Iterator[tuple[str, str]]:
    """The expressions over one row in a step, by where they stand."""
    match step:
        case FilterStep():
            yield "filter", step.filter
        case DeriveStep():
            yield from ((f"derive.{name}", text) for name, text in step.derive.items())
        case ValidateStep():
            for at, rule in enumerate(step.rules):
                if rule.check.sql is not None:
                    yield f"validate[{at}].check", rule.check.sql


def _twice(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
