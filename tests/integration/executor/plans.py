"""What the server says that a statement has read."""

from collections.abc import Iterator
from typing import Any

from dataaggregator.db import Connection


async def nodes_of(tx: Connection, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Every node of its plan, after it was carried out."""
    plan = await tx.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
    return list(_below(plan[0]["Plan"]))


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _below(child)


def rows_read(node: dict[str, Any]) -> float:
    """Those it looked at in vain included."""
    dropped = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    rows: float = (node["Actual Rows"] + dropped) * node["Actual Loops"]
    return rows
