"""Links lead from what was made to all that can be done with it, and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel

from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.openapi import document, merge
from dataaggregator.http.route import Route

Models = Mapping[int, type[BaseModel] | None]


class Job(BaseModel):
    id: str
    box_id: str


class Box(BaseModel):
    id: str


class BoxMade(Box):
    secret: str


class Member(BaseModel):
    box_id: str
    user_id: str


class Report(BaseModel):
    text: str


async def _nothing(_call: Call) -> Answer:
    return Answer(status=204)


def _route(method: str, path: str, answers: Models) -> Route:
    return Route(method, path, _nothing, "Do", "things", None, answers=answers)


BOXES: Sequence[Route] = (
    _route("POST", "/api/boxes", {201: BoxMade}),
    _route("GET", "/api/boxes", {200: Report}),
    _route("GET", "/api/boxes/{box}", {200: Box}),
    _route("DELETE", "/api/boxes/{box}", {204: None}),
    _route("POST", "/api/boxes/test", {200: Report}),
    _route("POST", "/api/boxes/{box}/jobs", {202: Job}),
    _route("POST", "/api/boxes/{box}/members", {201: Member}),
    _route("PUT", "/api/boxes/{box}/members/{user}", {200: Member}),
    _route("POST", "/api/boxes/{box}/reports", {201: Report}),
    _route("GET", "/api/boxes/{box}/reports/{report}", {200: Report}),
)
JOBS: Sequence[Route] = (
    _route("GET", "/api/jobs/{job:id}", {200: Job}),
    _route("POST", "/api/jobs/{job:id}/retry", {202: Job}),
    _route("GET", "/api/jobs/{job:id}/steps/{step}", {200: Report}),
)


@pytest.fixture
def told() -> dict[str, Any]:
    return merge({"boxes": document(BOXES, "boxes"), "jobs": document(JOBS, "jobs")})


def _links(told: Mapping[str, Any], path: str, status: str) -> dict[str, Any]:
    """Operation → the parameters that the link to it gives."""
    links = told["components"]["links"]
    refs = told["paths"][path]["post"]["responses"][status].get("links", {})
    named = [links[one["$ref"].rpartition("/")[2]] for one in refs.values()]
    return {one["operationId"]: one["parameters"] for one in named}


def test_one_that_was_made_leads_to_its_item_and_what_is_below(told: dict[str, Any]) -> None:
    assert _links(told, "/api/boxes", "201") == {
        f"{method}_api_boxes_box{below}": {"box": "$response.body#/id"}
        for method, below in (
            ("get", ""), ("delete", ""), ("post", "_jobs"), ("post", "_members"), ("post", "_reports"),
        )
    }  # fmt: skip


def test_what_is_started_leads_to_where_it_is_shown_in_whichever_service(told: dict[str, Any]) -> None:
    at = {"job": "$response.body#/id"}
    assert _links(told, "/api/boxes/{box}/jobs", "202") == {"get_api_jobs_job": at, "post_api_jobs_job_retry": at}
    assert _links(told, "/api/jobs/{job}/retry", "202") == {"get_api_jobs_job": at, "post_api_jobs_job_retry": at}


def test_what_else_an_item_needs_is_taken_from_the_path_of_the_call(told: dict[str, Any]) -> None:
    at = {"box": "$request.path.box", "user": "$response.body#/user_id"}
    assert _links(told, "/api/boxes/{box}/members", "201") == {"put_api_boxes_box_members_user": at}


def test_an_answer_without_an_id_leads_nowhere(told: dict[str, Any]) -> None:
    assert _links(told, "/api/boxes/{box}/reports", "201") == {}


def test_a_document_with_links_is_valid(told: dict[str, Any]) -> None:
    validate(told, cls=OpenAPIV31SpecValidator)


def test_a_service_that_is_not_there_is_linked_to_by_none() -> None:
    alone = merge({"boxes": document(BOXES, "boxes")})
    assert _links(alone, "/api/boxes/{box}/jobs", "202") == {}
