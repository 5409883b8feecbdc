"""PostgreSQL identifiers: the one door by which a name becomes part of SQL, and how a stream's name is read."""

from collections.abc import Iterable
from dataclasses import dataclass

from dataaggregator.errors import Invalid

LONGEST_BYTES = 63


def quote(name: str) -> str:
    """The identifier, quoted; Invalid "identifier-invalid" for what PostgreSQL cannot hold as it is."""
    if not name or "\0" in name:
        raise Invalid("identifier-invalid", f"{name!r} is not a name PostgreSQL can hold.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise Invalid("identifier-invalid", f"{name!r} is not valid Unicode.") from error
    if size > LONGEST_BYTES:
        raise Invalid("identifier-invalid", f"{name!r} is longer than PostgreSQL's {LONGEST_BYTES} bytes for a name.")
    return '"' + name.replace('"', '""') + '"'


def quote_all(names: Iterable[str]) -> str:
    return ", ".join(quote(name) for name in names)


@dataclass(frozen=True)
class Table:
    """A table by schema and name."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"

    def __str__(self) -> str:
        return f"{_written(self.schema)}.{_written(self.name)}"


def parse_table(stream: str) -> Table:
    """`schema.table`, or `table` in public; a part with a dot or a quote in it stands in double quotes."""
    parts = _parts(stream)
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise Invalid("stream-invalid", f"{stream!r} should be schema.table.")
    table = Table(parts[0] if len(parts) == 2 else "public", parts[-1])
    quote(table.schema), quote(table.name)
    return table


def table_parts(stream: str) -> tuple[str, str]:
    """The table's schema and name as they are, without quotes."""
    table = parse_table(stream)
    return table.schema, table.name


def table_within(schema: str, name: str) -> str:
    """The stream of this table; Invalid if PostgreSQL cannot hold one of both."""
    quote(schema), quote(name)
    return str(Table(schema, name))


def _parts(stream: str) -> list[str]:
    parts, rest = [], stream
    while True:
        if rest.startswith('"'):
            part, rest = _quoted(rest[1:], stream)
        else:
            part, dot, below = rest.partition(".")
            rest = dot + below
        parts.append(part)
        if not rest:
            return parts
        if not rest.startswith("."):
            raise Invalid("stream-invalid", f"{stream!r} should be schema.table.")
        rest = rest[1:]


def _quoted(rest: str, stream: str) -> tuple[str, str]:
    part = ""
    while True:
        before, quote_mark, after = rest.partition('"')
        part += before
        if not quote_mark:
            raise Invalid("stream-invalid", f"{stream!r} has a double quote that is not closed.")
        if not after.startswith('"'):
            return part, after
        part, rest = part + '"', after[1:]


def _written(part: str) -> str:
    """The part as `parse_table` reads it back."""
    return quote(part) if "." in part or '"' in part or not part else part
