"""The connector types installed here, found by entry point."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from dataaggregator.connector.spec import ConnectorType
from dataaggregator.errors import NotFound

GROUP = "dataaggregator.connectors"


@cache
def connector_types() -> Mapping[str, ConnectorType]:
    """Every installed type by name, in order of name."""
    found: dict[str, ConnectorType] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        made = point.load()
        if not isinstance(made, ConnectorType) or made.name != point.name:
            raise TypeError(f"entry point {point.name} of {GROUP} must name a ConnectorType called {point.name!r}")
        found[made.name] = made
    return found


def connector_type(name: str) -> ConnectorType:
    """The type of this name, or NotFound with the names there are."""
    types = connector_types()
    if name not in types:
        raise NotFound("connector-type-unknown", f"There is no connector type {name!r}; there are {', '.join(types)}.")
    return types[name]
