"""What is left of a pipeline when intervals of it are loaded again, and where they would not come right."""

from typing import Any

import pytest

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.compile.backfill import backfilled
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.errors import Invalid

ID = "0198c0de-0000-7000-8000-000000000001"
NEW = {"read": "incremental", "cursor_field": "at"}
MERGE = {"write": "merge", "key": ["id"], "version_field": "at"}


def use(stream: str, **more: Any) -> dict[str, Any]:
    return {"connector_id": ID, "connector_name": "c", "connector_type": "postgres", "stream": stream, **more}


def pipeline(sources: dict[str, Any], *destinations: dict[str, Any]) -> ResolvedPipeline:
    """Each source is cleaned by a transformation of its own."""
    transformations = [{"name": f"clean-{name}", "inputs": [name], "steps": [{"filter": "true"}]} for name in sources]
    definition = {
        "name": "p",
        "sources": sources,
        "transformations": transformations,
        "destinations": list(destinations),
    }
    return ResolvedPipeline.model_validate(definition)


def wrong(definition: ResolvedPipeline, *, overwrite: bool = False) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        backfilled(definition, overwrite=overwrite)
    assert caught.value.code == "backfill-impossible"
    return {one.field: one.code for one in caught.value.errors}


def test_only_the_way_of_new_rows_is_left_and_it_compiles() -> None:
    sources = {"whole": use("w"), "new": use("n", **NEW), "kept": use("k", **NEW, keep="full", primary_key=["id"])}
    definition = pipeline(
        sources,
        use("w", input="clean-whole", write="replace"),
        use("n", input="clean-new", **MERGE),
        use("k", input="clean-kept", write="replace"),
    )
    left = backfilled(definition, overwrite=False)
    assert [*left.sources] == ["new"]
    assert [one.name for one in left.transformations] == ["clean-new"]
    assert [one.stream for one in left.destinations] == ["n"]
    compile_pipeline(left)


def test_a_slot_is_not_parted_into_chunks() -> None:
    definition = pipeline({"new": use("n", **NEW)}, use("n", input="clean-new", chunk_rows=10, **MERGE))
    (destination,) = backfilled(definition, overwrite=False).destinations
    assert destination.chunk_rows is None


def test_every_reason_against_it_is_named_at_once() -> None:
    definition = pipeline(
        {"new": use("n", **NEW)},
        use("a", input="new"),
        use("b", input="clean-new", write="merge", key=["id"]),
        use("c", input="clean-new", delete_when="gone", **MERGE),
        use("d", input="clean-new", **MERGE),
    )
    appended = {"destinations[0].write": "backfill-append"}
    assert wrong(definition) == appended | {
        "destinations[1].version_field": "backfill-overwrites",
        "destinations[2].delete_when": "backfill-overwrites",
    }
    assert wrong(definition, overwrite=True) == appended


def test_a_pipeline_without_new_rows_has_no_intervals() -> None:
    kept = {"kept": use("k", **NEW, keep="full", primary_key=["id"])}
    whole = {"whole": use("w")}
    for sources in (kept, whole):
        (name,) = sources
        definition = pipeline(sources, use("o", input=f"clean-{name}", write="replace"))
        assert wrong(definition) == {"sources": "backfill-not-incremental"}
    end = {"connector_id": ID, "connector_name": "c", "connector_type": "postgres"}
    whole_schema = {"from": {**end, "streams": ["public.*"]}, "to": {**end, "schema": "raw"}}
    definition = ResolvedPipeline.model_validate({"name": "p", "replicate": whole_schema})
    assert wrong(definition) == {"replicate": "backfill-replicate"}
