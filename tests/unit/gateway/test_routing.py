"""Which service answers which path, and what the edge knows of it."""

import pytest

from dataaggregator.ids import new_id
from services.gateway import routing
from services.gateway.limiting.commands import Caller, _key


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
        ("/api/hooks/dah_x", "scheduler"),
        ("/api/hooks", "scheduler"),
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
        ("/api/pipelines/x/backfills", "scheduler"),
        ("/api/backfills/x/slots", "scheduler"),
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
    assert not routing.public("POST", "/api/auth/password")
    assert routing.public("POST", "/api/auth/password/reset")
    assert routing.public("GET", "/api/auth/oidc/callback")
    assert not routing.public("HEAD", "/api/auth/oidc/callback")  # whoever only looks must not spend it
    assert routing.public("POST", "/api/hooks/dah_x")
    assert routing.public("POST", "/api/hooks")
    assert not routing.public("GET", "/api/hooks")
    assert not routing.public("GET", "/api/hooks/dah_x")
    assert not routing.public("POST", "/api/hooks/dah_x/more")


def test_what_is_given_out_once_is_not_kept_for_a_key() -> None:
    assert routing.keeps_answer("POST", "/api/pipelines/x/runs")
    assert not routing.keeps_answer("POST", "/api/pipelines/x/hook/rotate")
    assert not routing.keeps_answer("POST", "/api/hooks/dah_x")
    assert not routing.keeps_answer("POST", "/api/hooks")
    assert not routing.keeps_answer("POST", "/api/users/x/password-reset")


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/api/auth/login", "login"),
        ("GET", "/api/auth/login", "api"),
        ("GET", "/api/auth/oidc/login", "login"),
        ("GET", "/api/auth/oidc/callback", "api"),
        ("POST", "/api/auth/password/reset", "login"),
        ("POST", "/api/pipelines/x/runs", "run"),
        ("GET", "/api/pipelines/x/runs", "api"),
        ("POST", "/api/runs/x/retry", "run"),
        ("POST", "/api/hooks/dah_x", "run"),
        ("POST", "/api/hooks", "run"),
        ("POST", "/api/runs/x/rejected/replay", "run"),
        ("POST", "/api/pipelines/x/backfills", "run"),
        ("GET", "/api/pipelines/x/backfills", "api"),
        ("POST", "/api/backfills/x/retry", "run"),
        ("POST", "/api/backfills/x/cancel", "api"),
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


def test_a_run_start_is_counted_by_workspace_and_a_hook_by_address() -> None:
    workspace = new_id()
    assert _key("run", Caller("192.0.2.7", new_id(), workspace)) == f"workspace:{workspace}"
    assert _key("run", Caller("192.0.2.7", None, None)) == "ip:192.0.2.7"
