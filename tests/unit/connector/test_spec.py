"""Spec: the registry finds the types, and every secret of a configuration has its path."""

from typing import Any

import pytest

from dataaggregator.connector.registry import connector_type, connector_types
from dataaggregator.connector.spec import config_schema, map_secrets, secret_paths
from dataaggregator.connector.typenames import parse_schema, parse_type
from dataaggregator.errors import Invalid, NotFound


def test_the_installed_types_are_found_by_name() -> None:
    assert list(connector_types()) == ["files", "http", "postgres"]
    with pytest.raises(NotFound, match="postgres"):
        connector_type("oracle")


def test_secrets_are_found_wherever_they_stand() -> None:
    assert secret_paths(connector_type("postgres")) == ("url", "password")
    assert "auth.client_secret" in secret_paths(connector_type("http"))
    assert "headers.*" in secret_paths(connector_type("http"))


def test_only_secret_texts_are_replaced_and_references_stay() -> None:
    config: dict[str, Any] = {
        "base_url": "https://example.com",
        "headers": {"X-Key": "hidden", "X-Other": {"$env": "OTHER"}},
        "auth": {"type": "bearer", "token": "hidden"},
    }
    masked = map_secrets(connector_type("http"), config, lambda path, _: f"<{path}>")
    assert masked["headers"] == {"X-Key": "<headers.X-Key>", "X-Other": {"$env": "OTHER"}}
    assert masked["auth"] == {"type": "bearer", "token": "<auth.token>"}
    assert masked["base_url"] == "https://example.com"


@pytest.mark.parametrize("name", ["postgres", "files", "http"])
def test_a_configuration_takes_no_unknown_field(name: str) -> None:
    assert config_schema(connector_type(name))["additionalProperties"] is False


def test_a_wrong_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ValueError, match="not known") as caught:
        connector_type("postgres").config.model_validate({"url": "postgresql://me:hunter2@host/db?odd=1"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["BIGINT", "decimal(12, 2)", "text[]", "timestamp with time zone", "numeric(50,3)"])
def test_type_names_are_understood(name: str) -> None:
    parse_type(name)


def test_every_unknown_type_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        parse_schema({"a": "bigint", "b": "bigfloat", "c": "decimal(99,2)"})
    assert [error.field for error in caught.value.errors] == ["schema.b", "schema.c"]
