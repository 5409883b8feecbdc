"""Probes run where runs run: connectors tested, streams found, rows shown, steps tried on a sample."""

from collections.abc import Awaitable, Callable
from typing import Any

from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.job import Answered, JobSettings, ProbeJob

from .conftest import MASK_KEY, WORKSPACE, Bench

Fill = Callable[[int], Awaitable[None]]


async def probe(bench: Bench, kind: str, **more: Any) -> Answered:
    if "pg" in bench.types:
        more = {"connector": bench.connectors[bench.types["pg"][0]]} | more
    settings = JobSettings(egress_private=True)
    given = {"probe": kind, "workspace_id": WORKSPACE, "folder": str(bench.folder), "settings": settings} | more
    given["mask_key"] = MASK_KEY
    async with bench.pool.take(WORKSPACE) as process:
        return await process.probe(ProbeJob.model_validate(given))


async def test_a_connector_is_tested_step_by_step(bench: Bench, orders: Fill) -> None:
    answered = await probe(bench, "connector_test")
    assert answered.error is None
    assert answered.result is not None
    assert answered.result["ok"] is True
    assert all(check["ok"] for check in answered.result["checks"])


async def test_streams_are_found_with_their_keys_and_exact_types(bench: Bench, orders: Fill) -> None:
    await orders(1)
    answered = await probe(bench, "discover", pattern="public.*")
    assert answered.result is not None
    (stream,) = answered.result["streams"]
    assert (stream["name"], stream["primary_key"]) == ("public.orders", ["id"])
    assert stream["schema"]["properties"]["amount"]["arrow_type"] == "decimal128(12, 2)"


async def test_a_preview_shows_no_more_rows_than_asked_for(bench: Bench, orders: Fill) -> None:
    await orders(50)
    answered = await probe(bench, "preview", stream="public.orders", limit=7)
    assert answered.result is not None
    assert len(answered.result["rows"]) == 7


async def test_what_is_not_there_is_told_as_an_error(bench: Bench, orders: Fill) -> None:
    answered = await probe(bench, "preview", stream="public.nothing")
    assert answered.result is None
    assert answered.error is not None
    assert answered.error.code == "stream-missing"


async def test_steps_are_tried_on_a_sample_with_the_laws_of_a_run(bench: Bench) -> None:
    rule = {"rule": "positive", "check": "amount > 0", "on_fail": "reject"}
    steps = [{"filter": "id <> 3"}, {"validate": [rule]}, {"derive": {"twice": "amount * 2"}}]
    definition = TransformationDefinition.model_validate({"name": "try", "steps": steps})
    sample = {"input": [{"id": n, "amount": n - 1.5} for n in range(5)]}
    answered = await probe(bench, "transform_test", transformation=definition, sample=sample)
    assert answered.error is None
    result = answered.result
    assert result is not None
    assert result["balanced"] is True
    assert [row["twice"] for row in result["output"]] == [1.0, 5.0]
    assert [(step["kind"], step["read"], step["written"]) for step in result["steps"]] == [
        ("filter", 5, 4),
        ("validate", 4, 2),
        ("derive", 2, 2),
    ]
    assert [(row["rule"], row["row"]["id"]) for row in result["rejected"]] == [("positive", 0), ("positive", 1)]


async def test_a_wrong_expression_is_named_with_its_place(bench: Bench) -> None:
    definition = TransformationDefinition.model_validate({"name": "try", "steps": [{"filter": "amount >"}]})
    answered = await probe(bench, "transform_test", transformation=definition, sample={"input": [{"amount": 1}]})
    assert answered.error is not None
    assert answered.error.code == "definition-invalid"
    assert answered.errors[0]["field"] == "steps[0].filter"
