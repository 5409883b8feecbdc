"""Sources with `keep: full` as a run sees them: new rows, kept rows, and the whole that the two make by key."""

from collections.abc import Iterator

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.compile.plan import Plan, SourceNode, TransformNode


def with_kept(plan: Plan, definition: ResolvedPipeline) -> Plan:
    """The whole stands under the source's own name, so that nothing behind it knows the difference."""
    kept = {name: source for name, source in definition.sources.items() if source.keep is not None}
    wholes = tuple(
        TransformNode(
            name, tuple(part.name for part in _parts(name)), (), path=f"sources.{name}",
            keep=source.primary_key, delete_when=source.delete_when,
        )
        for name, source in kept.items()
    )  # fmt: skip
    sources = tuple(
        part for source in plan.sources for part in (_parts(source.name) if source.name in kept else (source,))
    )
    return Plan(sources, (*wholes, *plan.transforms), plan.destinations)


def _parts(name: str) -> Iterator[SourceNode]:
    """No name of a definition has a space in it."""
    yield SourceNode(f"{name} (new)", name)
    yield SourceNode(f"{name} (kept)", name, kept=True)
