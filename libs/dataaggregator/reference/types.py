"""The reference: which types a connector type reads, as what, and what it refuses of them."""

from dataaggregator.connector.registry import connector_types
from dataaggregator.connector.spec import ConnectorType
from dataaggregator.reference.markdown import HEAD, table


def page() -> str:
    sections = "\n".join(_section(one) for one in connector_types().values() if one.types)
    return (
        f"{HEAD}\n# Types\n\nWhat values of a system are on their way, as Arrow calls it. A value that has no place "
        "there ends the run with its column named (`value-not-representable`, `value-does-not-fit`), before anything "
        "is committed; it is never changed. Every type and the values at its edges are tried by "
        f"`tests/integration/dataplane/test_type_matrix.py`.\n\n{sections}"
    )


def _section(type_: ConnectorType) -> str:
    rows = [(", ".join(f"`{name}`" for name in row.types), f"`{row.arrow}`", row.remark) for row in type_.types]
    return f"## {type_.title}\n\n{type_.types_remark}\n\n{table(('type', 'read as', ''), rows)}"
