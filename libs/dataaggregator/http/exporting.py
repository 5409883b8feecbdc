"""Exports at the HTTP door: which definitions are wanted, and how many of a kind there may be at once."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from dataaggregator.contracts.apply import KINDS, MOST_DEFINITIONS, Kind
from dataaggregator.db.pages import PAGE_BYTES
from dataaggregator.errors import TooLarge
from dataaggregator.http.paging import Query

Name = Annotated[str, Field(min_length=1, max_length=200)]


class ExportQuery(Query):
    """Which definitions are exported: those of these kinds with these names; all that are there without."""

    kind: Annotated[
        tuple[Kind, ...], Field(max_length=len(KINDS), description="Only of this kind; can be given several times.")
    ] = ()
    name: Annotated[
        tuple[Name, ...],
        Field(max_length=MOST_DEFINITIONS, description="Only what is called so; can be given several times."),
    ] = ()

    def wants(self, kind: Kind) -> bool:
        return not self.kind or kind in self.kind

    @property
    def names(self) -> Sequence[str] | None:
        """None for all."""
        return self.name or None


def too_large_to_export(kind: Kind) -> TooLarge:
    """More of one kind than PAGE_BYTES."""
    return TooLarge(
        "export-too-large",
        f"The {kind}s of this export come to more than {PAGE_BYTES:,} bytes, and that is the most of a kind that is "
        f"exported at once: ask for them in parts, by kind={kind} and names (name=...&name=...).",
    )
