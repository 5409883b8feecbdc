"""What expressions may say: one row's worth in derive, filter and validate, aggregates in measures, a SELECT in sql."""

import re
from collections.abc import Iterable

from sqlglot import exp

from dataaggregator.dataplane.compile import functions
from dataaggregator.dataplane.compile.keywords import RESERVED
from dataaggregator.dataplane.compile.texts import Text, parse_expression, parse_query

_VOLATILE = (
    exp.CurrentDate,
    exp.CurrentDatetime,
    exp.CurrentTime,
    exp.CurrentTimestamp,
    exp.CurrentUser,
    exp.Localtime,
    exp.Localtimestamp,
    exp.Rand,
    exp.Randn,
    exp.Uuid,
)
_AGGREGATES = (exp.AggFunc, exp.AnonymousAggFunc, exp.CombinedAggFunc)
_ALONE = re.compile(r"\(\s*(all|distinct)\s*\)", re.IGNORECASE)
# Statements and clauses that do more than read.
_DEEDS = (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Pragma, exp.Attach, exp.Detach, exp.Copy, exp.Set, exp.Use)


def check_expression(text: str) -> Text:
    """For derive, filter and validate: the same row must always give the same value; raises WrongSqlError."""
    found = parse_expression(text)
    _check_names(found)
    for node in found.tree.walk():
        if isinstance(node, _AGGREGATES) or _named(node) in functions.AGGREGATES - functions.SCALARS:
            raise found.wrong("an aggregate looks at many rows; write it in an aggregate step", node)
    _check_value(found)
    _check_functions(found, functions.SCALARS)
    return found


def check_measure(text: str) -> Text:
    """For measures of an aggregate; raises WrongSqlError."""
    found = parse_expression(text)
    _check_names(found)
    if not any(isinstance(node, _AGGREGATES) or _named(node) in functions.AGGREGATES for node in found.tree.walk()):
        raise found.wrong("a measure is an aggregate such as sum(x) or count(*); this looks at one row", found.tree)
    _check_value(found)
    _check_functions(found, functions.SCALARS | functions.AGGREGATES)
    return found


def check_query(text: str, inputs: Iterable[str]) -> tuple[Text, frozenset[str]]:
    """For sql: the tree and the inputs it reads, in lower case; raises WrongSqlError."""
    found = parse_query(text)
    _check_names(found)
    known = {name.lower() for name in inputs}
    own = {cte.alias.lower() for cte in found.tree.find_all(exp.CTE)}
    read = set()
    for node in found.tree.walk():
        if isinstance(node, _DEEDS):
            raise found.wrong("a sql step is one SELECT over its inputs and nothing else", node)
        if isinstance(node, exp.Table):
            name = _relation(found, node)
            if name and name not in known | own:
                message = f"{node.name} is none of the inputs; they are: {', '.join(sorted(known))}"
                raise found.wrong(message, node)
            read.add(name)
    everything = functions.SCALARS | functions.AGGREGATES | functions.WINDOWS | functions.VOLATILE | functions.TABLES
    _check_functions(found, everything)
    return found, frozenset(read & known)


def _relation(text: Text, table: exp.Table) -> str:
    if table.args.get("db") or table.args.get("catalog"):
        raise text.wrong("a relation is an input by its plain name, without schema or database", table)
    if isinstance(table.this, exp.Identifier):
        return table.name.lower()
    if _named(table.this) in functions.TABLES or isinstance(table.this, exp.Unnest | exp.GenerateSeries):
        return ""
    raise text.wrong("only inputs, and unnest, range or generate_series, can be read from", table)


def _check_names(text: Text) -> None:
    """The parser takes some of the engine's own words for names of fields, which the engine does not."""
    for node in text.tree.walk():
        if (word := _word(node) or _swallowed(text, node)) in RESERVED:
            raise text.wrong(f'{word} is a word of SQL; a field of that name is written "{word}", in quotes', node)


def _swallowed(text: Text, node: exp.Expr) -> str:
    """The word that the parser took for a part of the call around it: `max(all)`, `upper(distinct)`, `max(fetch)`."""
    if isinstance(node, exp.Fetch) and isinstance(node.parent, exp.Func):
        return "fetch"
    if isinstance(node, exp.Distinct) and isinstance(node.parent, exp.Func) and not node.expressions:
        return "distinct"
    found = _ALONE.search(text.bound.sql) if isinstance(node, exp.AggFunc) and not any(node.args.values()) else None
    return found.group(1).lower() if found else ""


def _check_value(text: Text) -> None:
    """No subquery, no window, nothing that differs from one moment to the next."""
    for node in text.tree.walk():
        if isinstance(node, exp.Query | exp.Subquery | exp.Exists | exp.Table):
            raise text.wrong("a subquery cannot stand here; join the other rows first, or use a sql step", node)
        if isinstance(node, exp.Window) or _named(node) in functions.WINDOWS:
            raise text.wrong("a window function looks at other rows; use a sql step", node)
        if isinstance(node, _VOLATILE) or _named(node) in functions.VOLATILE or _word(node) in functions.VOLATILE:
            message = (
                "this gives another value at another moment, so a run could not be repeated; "
                "use a parameter of the pipeline, or a sql step"
            )
            raise text.wrong(message, node)
        if isinstance(node, exp.Columns) or (isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count)):
            raise text.wrong("name the fields; a star cannot stand here", node)


def _named(node: exp.Expr) -> str:
    """The name of a call sqlglot has no class for."""
    return str(node.name).lower() if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc) else ""


def _word(node: exp.Expr) -> str:
    """A bare word that is not the name of a field in quotes."""
    bare = isinstance(node, exp.Column) and not node.args.get("table") and not node.this.args.get("quoted")
    return node.name.lower() if bare else ""


def _check_functions(text: Text, allowed: frozenset[str]) -> None:
    for node in text.tree.walk():
        name = _named(node)
        if isinstance(node, exp.ReadCSV | exp.ReadParquet):
            name = node.sql_name().lower()
        if name and name not in allowed:
            raise text.wrong(f"the function {name} is unknown or may not be used here", node)
