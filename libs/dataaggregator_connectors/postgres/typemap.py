"""The types as the reference shows them: what each is read as, and what of it is refused."""

from collections.abc import Iterator

from dataaggregator.connector.spec import TypeRow
from dataaggregator_connectors.postgres.types import FREE_NUMERIC, LISTED, NOT_PORTABLE, SIMPLE, numeric_type

NUMERIC_30_10, NUMERIC_60_20 = ((30 << 16) | 10) + 4, ((60 << 16) | 20) + 4
REMARKS = {
    "oid": "An `oid` is a whole number without a sign.",
    "text": "A text with the character 0 from elsewhere is refused. `char(n)` keeps its blanks.",
    "date": "`infinity` is refused. Years before Christ are read and written.",
    "time": "24:00 is refused.",
    "timestamp": "`infinity` and years that 64 bits of microseconds do not reach are refused.",
    "timestamptz": "The moment, told in UTC; refused as above.",
    "json": "The document as it is written, as text marked JSON.",
}
OTHERS = (
    "timetz", "interval", "bit(5)", "varbit", "inet", "cidr", "macaddr", "macaddr8", "xml", "jsonpath", "tsvector",
    "tsquery", "int4range", "tstzrange", "int8multirange", "point", "line", "lseg", "box", "path", "polygon", "circle",
    "pg_lsn", "xid8", "tid", '"char"',
)  # fmt: skip
LIST_REMARK = (
    "Of what their elements are read as. An array of several dimensions, or whose first place is not 1, is refused."
)
OTHERS_REMARK = (
    "PostgreSQL's own text of it; into a column of its own type as it was. So are enums, composites and types of "
    "extensions."
)
NAMES_REMARK = (
    "A name. Such a column is refused at a destination: the number behind it means something in its own database only."
)


def rows() -> Iterator[TypeRow]:
    alike: dict[str, list[str]] = {}
    for name, arrow in SIMPLE.items():
        alike.setdefault(str(arrow), []).append(name)
    for told, names in alike.items():
        yield TypeRow(tuple(names), told, " ".join(REMARKS[name] for name in names if name in REMARKS))
    yield from _numbers()
    listed = sorted(LISTED - {"numeric"}, key=list(SIMPLE).index)
    yield TypeRow(tuple(f"{name}[]" for name in (*listed, "numeric")), "list", LIST_REMARK)
    yield TypeRow(("uuid[]", "jsonb[]", "bpchar[]", "inet[]", "interval[]"), "string", "PostgreSQL's own text of it.")
    yield TypeRow(OTHERS, "string", OTHERS_REMARK)
    yield TypeRow(tuple(sorted(NOT_PORTABLE - {"money"})), "string", NAMES_REMARK)


def _numbers() -> Iterator[TypeRow]:
    bounded = "`numeric(p,s)` up to {} digits, exactly. `NaN` is refused."
    yield TypeRow(("numeric(30,10)",), str(numeric_type(NUMERIC_30_10)), bounded.format(38))
    yield TypeRow(("numeric(60,20)",), str(numeric_type(NUMERIC_60_20)), bounded.format(76))
    yield TypeRow(
        ("numeric(100,50)", "numeric(3,-2)"),
        "string",
        "More digits or another scale than Arrow has: as text, and only into a column of the very same kind.",
    )
    yield TypeRow(
        ("numeric",),
        str(FREE_NUMERIC),
        "Without bounds the value is kept, not how many zeros end it. `NaN`, `infinity` and what does not fit are "
        "refused; read the column as text, or with a `schema` of your own.",
    )
    yield TypeRow(("money",), str(FREE_NUMERIC), "The amount. A column of money is refused at a destination.")
