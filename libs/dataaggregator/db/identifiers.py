"""The database: the one quoting function for PostgreSQL identifiers."""

from dataaggregator.errors import Invalid

LONGEST_BYTES = 63


def quote(*names: str) -> str:
    """`"schema"."table"` for its parts; refused if PostgreSQL could not hold a name as it is."""
    for name in names:
        if not name or "\0" in name:
            raise Invalid("identifier-invalid", f"{name!r} cannot be the name of anything in PostgreSQL")
        if len(name.encode()) > LONGEST_BYTES:
            raise Invalid("identifier-invalid", f"{name!r} is longer than PostgreSQL's {LONGEST_BYTES} bytes")
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
