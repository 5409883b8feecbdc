"""Which service answers which path, and what the edge knows of it."""

import pytest

from services.gateway import routing


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/api/auth/login", "auth"),
        ("/api/users", "auth"),
        ("/api/workspaces/x/members", "auth"),
        ("/api/connector-types", "connectors"),
        ("/api/connectors/x/test", "connectors"),
        ("/api/transformations/test", "scheduler"),
        ("/api/triggers/preview", "scheduler"),
        ("/api/pipelines", "scheduler"),
        ("/api/pipelines/x/runs", "scheduler"),
        ("/api/pipelines/x/state", "scheduler"),
        ("/api/pipelines/state", "scheduler"),
        ("/api/runs", "scheduler"),
        ("/api/runs/x", "scheduler"),
        ("/api/runs/x/retry", "scheduler"),
        ("/api/runs/x/ledger", "executor"),
        ("/api/runs/x/rejected", "executor"),
        ("/api/runs/x/rejected/summary", "executor"),
        ("/api/runs/x/rejected/replay", "scheduler"),
        ("/api/runs/x/logs", "executor"),
        ("/api/runs/x/verify", "executor"),
        ("/api/runs/x/events", None),
        ("/api/events", None),
        ("/api/status", None),
        ("/api/parked", None),
        ("/api/usersx", None),
        ("/internal/probe", None),
    ],
)
def test_every_path_has_one_service(path: str, service: str | None) -> None:
    assert routing.service_of(path) == service


def test_what_needs_no_token_is_a_short_list() -> None:
    assert routing.public("POST", "/api/auth/login")
    assert not routing.public("GET", "/api/auth/login")
    assert not routing.public("GET", "/api/auth/me")
    assert not routing.public("POST", "/api/users")


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/api/auth/login", "login"),
        ("GET", "/api/auth/login", "api"),
        ("POST", "/api/pipelines/x/runs", "run"),
        ("GET", "/api/pipelines/x/runs", "api"),
        ("POST", "/api/runs/x/retry", "run"),
        ("POST", "/api/runs/x/rejected/replay", "run"),
        ("POST", "/api/runs/x/cancel", "api"),
    ],
)
def test_each_call_has_a_limit_class(method: str, path: str, limit: str) -> None:
    assert routing.limit_class(method, path) == limit


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("/api/auth/%6Cogin", "/api/auth/login"),
        ("/api/%61uth/%6c%6Fgin", "/api/auth/login"),
        ("/api/users/a%40b", "/api/users/a%40b"),
        ("/api/runs/a%2Flogs", "/api/runs/a%2Flogs"),
        ("/api/users/%25%36%43", "/api/users/%256C"),
    ],
)
def test_a_path_cannot_be_disguised(written: str, canonical: str) -> None:
    assert routing.canonical(written) == canonical
