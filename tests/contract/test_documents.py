"""Every service's routes: one document that is valid, nothing public by accident, every way in named once."""

import re
from collections import Counter
from collections.abc import Mapping

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from dataaggregator.bus import EmbeddedBus
from dataaggregator.bus.rabbitmq import topology
from dataaggregator.clock import SystemClock
from dataaggregator.contracts.envelope import MESSAGES
from dataaggregator.contracts.identity import IdentityRevoked
from dataaggregator.contracts.platform import BusResendRequested
from dataaggregator.contracts.run import RunProgressed
from dataaggregator.db import Database
from dataaggregator.directory import Directory
from dataaggregator.http.openapi import document, merge
from dataaggregator.http.route import Route
from dataaggregator.installed import installed_services
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.permissions import Permission
from dataaggregator.ports import Ports
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings

#: Who asks here need not be logged in.
PUBLIC = {
    ("auth", "POST", "/api/auth/login"),
    ("auth", "POST", "/api/auth/refresh"),
    ("auth", "POST", "/api/auth/logout"),  # whoever holds the refresh token may end its family
    ("auth", "POST", "/api/auth/password/reset"),  # the token says who may
    ("auth", "GET", "/api/auth/jwks.json"),
    ("auth", "GET", "/api/auth/oidc/login"),
    ("auth", "GET", "/api/auth/oidc/callback"),
    ("scheduler", "POST", "/api/hooks"),  # the token in its header says who may
    ("scheduler", "POST", "/api/hooks/{token}"),  # the token says who may
    ("gateway", "GET", "/api/docs"),
    ("gateway", "GET", "/api/docs/errors"),
    ("gateway", "GET", "/api/docs/page.js"),
    ("gateway", "GET", "/api/docs/style.css"),
    ("gateway", "GET", "/api/status"),  # it must answer when nobody can log in; it tells no secret
    ("gateway", "GET", "/api/openapi.json"),
    ("gateway", "GET", "/api/asyncapi.json"),
}


@pytest.fixture(scope="module")
def services() -> Mapping[str, Service]:
    """Every installed service, built and not opened."""
    settings = Settings.load({"SECRET_KEY": "only-for-tests-only-for-tests-only-for-tests", "DATABASE_URL": _NOWHERE})
    database, clock = Database(_NOWHERE, settings), SystemClock()
    ports = Ports(
        settings=settings,
        database=database,
        bus=EmbeddedBus(database, settings),
        limits=InProcessLimits(settings.rates()),
        revocations=InProcessRevocations(clock),
        directory=Directory(),
        keys=KeyRing("only-for-tests-only-for-tests-only-for-tests"),
        clock=clock,
    )
    return {installed.name: installed.build(ports) for installed in installed_services()}


_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture(scope="module")
def routes(services: Mapping[str, Service]) -> list[tuple[str, Route]]:
    return [(name, route) for name, service in services.items() for route in service.routes]


def test_the_document_of_each_service_and_of_all_together_is_valid(services: Mapping[str, Service]) -> None:
    documents = {name: document(service.routes, name) for name, service in services.items()}
    for one in documents.values():
        validate(one, cls=OpenAPIV31SpecValidator)
    whole = merge(documents, "Data Aggregator Platform")
    validate(whole, cls=OpenAPIV31SpecValidator)
    operations = [operation["operationId"] for item in whole["paths"].values() for operation in item.values()]
    assert [name for name, count in Counter(operations).items() if count > 1] == []


def test_links_give_what_the_path_they_lead_to_needs(services: Mapping[str, Service]) -> None:
    whole = merge({name: document(service.routes, name) for name, service in services.items()})
    paths = {operation["operationId"]: path for path, item in whole["paths"].items() for operation in item.values()}
    links = whole["components"]["links"].values()
    assert {one["operationId"]: set(one["parameters"]) for one in links} == {
        one["operationId"]: set(re.findall(r"{(.*?)}", paths[one["operationId"]])) for one in links
    }
    for start, item in (("/api/pipelines", "pipelines_pipeline"), ("/api/pipelines/{pipeline}/runs", "runs_run")):
        made = next(
            one for status, one in whole["paths"][start]["post"]["responses"].items() if status in ("201", "202")
        )
        assert f"get_api_{item}" in made["links"]


def test_a_service_listens_to_every_event_but_to_those_that_none_has_to_hear(services: Mapping[str, Service]) -> None:
    heard = {handler.message.event_type for service in services.values() for handler in service.handlers}
    assert set(MESSAGES) - heard - {BusResendRequested.event_type} == {IdentityRevoked.event_type}
    assert {IdentityRevoked.event_type, RunProgressed.event_type} == set(topology.UNHEARD_TYPES)


def test_only_what_must_be_is_open_to_everybody(routes: list[tuple[str, Route]]) -> None:
    open_ = {(name, one.method, one.path) for name, one in routes if one.permission is None and not one.internal}
    assert open_ <= PUBLIC


def test_internal_and_public_routes_are_told_apart_by_their_path(routes: list[tuple[str, Route]]) -> None:
    for name, route in routes:
        assert route.path.startswith("/internal/" if route.internal else "/api/"), (name, route.path)


def test_what_changes_something_is_no_get(routes: list[tuple[str, Route]]) -> None:
    """A browser sends its cookie with a GET that any page makes it do. A login at a provider cannot be otherwise, and
    is bound to its browser by a cookie of its own."""
    for _, route in routes:
        if route.method == "GET" and not route.path.startswith("/api/auth/oidc/"):
            assert route.permission not in (Permission.DEFINITIONS_WRITE, Permission.RUNS_OPERATE), route.path
            assert (set(route.answers), route.body, route.idempotent) == ({200}, None, False), route.path


def test_no_way_in_is_served_twice(routes: list[tuple[str, Route]]) -> None:
    served = Counter((route.method, route.template) for _, route in routes if not route.internal)
    assert [where for where, count in served.items() if count > 1] == []


def test_what_has_versions_can_be_guarded_by_them(routes: list[tuple[str, Route]]) -> None:
    for _, route in routes:
        answered = route.answers.get(200)
        if route.method in ("PUT", "PATCH") and answered is not None and "version" in answered.model_fields:
            assert route.etag, (route.method, route.path)


def test_what_starts_or_creates_takes_an_idempotency_key(routes: list[tuple[str, Route]]) -> None:
    for _, route in routes:
        if route.method == "POST" and {201, 202} & set(route.answers) and not route.internal:
            assert route.idempotent, route.path
