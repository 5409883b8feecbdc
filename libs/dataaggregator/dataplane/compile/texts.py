"""Users' SQL as syntax trees (sqlglot, DuckDB's dialect), with the lines and columns of what was written."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError as SqlglotParseError
from sqlglot.errors import SqlglotError

from dataaggregator.dataplane.compile.parameters import Bound, bind
from dataaggregator.errors import FieldError

CODE = "expression"
logging.getLogger("sqlglot").setLevel(logging.ERROR)  # what it cannot parse we refuse, with a sentence of our own
_OURS = re.compile(r"\$?p0_\d+")


class WrongSqlError(Exception):
    """Something in a text is not as it must be; `line` and `column` count from 1."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def told(self, field: str) -> FieldError:
        """As one wrong field."""
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return FieldError(field, f"{where}{self.message}", CODE)


@dataclass(frozen=True, slots=True)
class Text:
    """A text, its parameters replaced by places, and its tree."""

    bound: Bound
    tree: exp.Expr
    lines_before: int = 0

    def wrong(self, message: str, node: exp.Expr | None = None) -> WrongSqlError:
        """An error at a node (or the first thing in it that has a place)."""
        if node is None:
            return WrongSqlError(message)
        if "start" not in node.meta and (found := self._called(node)) is not None:
            return WrongSqlError(message, *found)
        for part in node.walk():
            if "start" in part.meta:
                return WrongSqlError(message, *_place(part.meta, self.lines_before))
        return WrongSqlError(message)

    def _called(self, node: exp.Expr) -> tuple[int, int] | None:
        """Where a function sqlglot has a class for is called first: its nodes do not remember."""
        names = "|".join(re.escape(name) for name in node.sql_names()) if isinstance(node, exp.Func) else ""
        match = re.search(rf"\b({names})\b", self.bound.sql, re.IGNORECASE) if names else None
        if match is None:
            return None
        read = self.bound.sql[: match.start()]
        return read.count("\n") + 1, match.start() - (read.rfind("\n") + 1) + 1


def _place(meta: dict[str, int], lines_before: int) -> tuple[int, int]:
    width = meta["end"] - meta["start"]
    return meta["line"] - lines_before, meta["col"] - width


def parse_expression(text: str) -> Text:
    """One expression over a row; raises WrongSqlError."""
    bound = _bound(text)
    tree = _parse(f"SELECT (\n{bound.sql}\n)", lines_before=1)
    if not isinstance(tree, exp.Select) or set(_given(tree)) != {"expressions"} or len(tree.expressions) != 1:
        raise WrongSqlError("write one expression, without SELECT, FROM or a comma outside parentheses")
    inner = tree.expressions[0]
    if isinstance(inner, exp.Subquery):
        raise WrongSqlError("a subquery cannot stand here; join the other rows first, or use a sql step", 1, 1)
    if not isinstance(inner, exp.Paren) or isinstance(inner.this, exp.Alias):
        raise WrongSqlError("write one expression; this is a list, a statement or has a name of its own")
    found = Text(bound, inner.this, 1)
    _only_our_places(found)
    return found


def parse_query(text: str) -> Text:
    """One SELECT; raises WrongSqlError."""
    bound = _bound(text.rstrip().removesuffix(";"))
    found = Text(bound, _parse(bound.sql))
    if not isinstance(found.tree, exp.Query):
        raise WrongSqlError("a sql step is one SELECT over its inputs and nothing else", 1, 1)
    _only_our_places(found)
    return found


def _bound(text: str) -> Bound:
    bound = bind(text)
    if match := re.search(r"\{\{\s*[A-Za-z]", bound.sql):
        read = bound.sql[: match.start()]
        place = read.count("\n") + 1, match.start() - (read.rfind("\n") + 1) + 1
        raise WrongSqlError("the only thing between {{ and }} is parameters.name", *place)
    return bound


def _given(tree: exp.Expr) -> Iterator[str]:
    return (key for key, value in tree.args.items() if value)


def _parse(sql: str, lines_before: int = 0) -> exp.Expr:
    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect="duckdb") if tree is not None]
    except SqlglotParseError as error:
        raise _unreadable(error, lines_before, sql.split("\n")[lines_before:]) from error
    except (SqlglotError, RecursionError) as error:
        raise WrongSqlError(f"this cannot be read as SQL: {str(error).splitlines()[0]}") from error
    if len(trees) != 1:
        raise WrongSqlError("write one statement, without a semicolon", 1, 1)
    return trees[0]


def _unreadable(error: SqlglotParseError, lines_before: int, lines: Sequence[str]) -> WrongSqlError:
    """`lines` from the first of the user's on; those before were put around it, and then one more after it."""
    first = error.errors[0] if error.errors else {}
    word = str(first.get("highlight") or "")
    said = str(first.get("description") or error).rstrip(".")
    message = f"this cannot be read as SQL near {word!r}: {said}" if word else f"this cannot be read as SQL: {said}"
    line, column = first.get("line"), first.get("col")
    if line is None or column is None:
        return WrongSqlError(message)
    if lines_before and line - lines_before >= len(lines):
        told = "this cannot be read as SQL: something is missing, or closed that was not opened"
        return WrongSqlError(told, len(lines) - 1, len(lines[-2]) + 1)
    return WrongSqlError(message, max(line - lines_before, 1), max(column - len(word) + 1, 1))


def _only_our_places(text: Text) -> None:
    """Bound values stand where a value can stand; a use inside quotes would be mere text."""
    for node in text.tree.walk():
        if isinstance(node, exp.Placeholder | exp.Parameter) and not _OURS.fullmatch(node.sql(dialect="duckdb")):
            raise text.wrong("a value from outside is written {{ parameters.name }}", node)
        quoted = isinstance(node, exp.Literal) and node.is_string
        if (quoted or isinstance(node, exp.Identifier)) and re.search(r"\$p0_\d+", str(node.this)):
            raise text.wrong("a parameter is bound as a value: write {{ parameters.name }} without quotes", node)
