"""Configurations parted from their secrets, with references, and every wrong field named."""

import os
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.connector.registry import connector_type
from dataaggregator.contracts.secret import MASK
from dataaggregator.errors import Invalid
from dataaggregator.settings import Settings
from services.connectors.domain import filled, part
from services.connectors.references import References

POSTGRES = connector_type("postgres")
GOOD = {"host": "db.example.org", "password": "geheim"}


def _wrong(config: dict[str, Any], **kept: str) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        part(POSTGRES, config, kept)
    return {wrong.field: wrong.code for wrong in refused.value.errors}


def test_secrets_are_parted_and_come_back_in_their_places() -> None:
    parted = part(POSTGRES, GOOD, {})
    assert parted.config == {"host": "db.example.org", "password": MASK}
    assert parted.secrets == {"password": "geheim"}
    assert filled(POSTGRES, parted.config, parted.secrets.__getitem__) == GOOD
    assert "geheim" not in repr(parted)


def test_the_mask_means_the_stored_secret_and_nothing_where_none_is() -> None:
    masked = {"host": "db.example.org", "password": MASK}
    assert part(POSTGRES, masked, {"password": "old"}).secrets == {"password": "old"}
    assert _wrong(masked) == {"config.password": "missing-field"}


def test_every_wrong_field_is_named() -> None:
    wrong = _wrong({"host": "db", "port": "x", "sslmode": "maybe", "unknown": 1})
    assert set(wrong) == {"config.port", "config.sslmode", "config.unknown"}


@pytest.mark.parametrize(
    "config",
    [
        {"url": {"$env": "WAREHOUSE_URL"}},
        {"host": "db", "port": {"$env": "WAREHOUSE_PORT"}, "password": {"$file": "/run/secrets/warehouse"}},
        {"host": "db", "options": {"search_path": {"$env": "SCHEMA"}}},
    ],
)
def test_a_reference_stays_as_it_is_written(config: dict[str, Any]) -> None:
    parted = part(POSTGRES, config, {})
    assert parted.config == config
    assert parted.secrets == {}


def test_a_reference_excuses_no_other_field() -> None:
    assert _wrong({"host": "db", "port": {"$env": "PORT"}, "sslmode": "maybe"}).keys() == {"config.sslmode"}


@pytest.mark.parametrize("reference", [{"$env": ""}, {"$env": 1}, {"$env": "A", "$file": "b"}, {"$file": "a", "x": 1}])
def test_a_reference_is_one_thing(reference: dict[str, Any]) -> None:
    assert _wrong({"host": "db", "password": reference})["config.password"] == "reference"


@pytest.fixture
def references(tmp_path: Path) -> References:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "warehouse").write_text("geheim\n")
    home = secrets / "home"
    home.mkdir()
    (home / "secret_key").write_text("the platform's own")
    settings = Settings.model_validate({"home": home, "files_allowed_roots": [secrets]})
    return References(settings, {"WAREHOUSE_URL": "postgresql://db/x", "SECRET_KEY": "the platform's own"})


def test_references_are_looked_up(references: References, tmp_path: Path) -> None:
    config = {"url": {"$env": "WAREHOUSE_URL"}, "deep": [{"$file": f"{tmp_path}/secrets/warehouse"}]}
    assert references.resolve(config) == {"url": "postgresql://db/x", "deep": ["geheim"]}


@pytest.mark.parametrize(
    "reference",
    [
        {"$env": "SECRET_KEY"},
        {"$env": "secret_key"},
        {"$env": "DATABASE_URL"},
        {"$env": "DATAAGGREGATOR_HOME"},
        {"$env": "NOT_SET"},
        {"$env": "NOT A NAME"},
        {"$file": "{folder}/secrets/home/secret_key"},
        {"$file": "{folder}/secrets/../other"},
        {"$file": "{folder}/secrets/missing"},
        {"$file": "/etc/passwd"},
    ],
)
def test_what_is_not_for_connectors_is_not_given(
    references: References, tmp_path: Path, reference: dict[str, str]
) -> None:
    (tmp_path / "other").write_text("not allowed")
    [(kind, name)] = reference.items()
    with pytest.raises(Invalid) as refused:
        references.resolve({"password": {kind: name.replace("{folder}", str(tmp_path))}})
    assert refused.value.code == "reference-unresolved"
    assert "platform's own" not in refused.value.detail


def test_where_the_whole_disk_is_allowed_only_plain_files_are_read(tmp_path: Path) -> None:
    """The process' own environment holds SECRET_KEY; a pipe would hold the loop up for as long as nobody writes."""
    (tmp_path / "home").mkdir()
    settings = Settings.model_validate({"home": tmp_path / "home", "files_allowed_roots": [Path("/")]})
    everywhere = References(settings, {})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").write_text("geheim")
    assert everywhere.resolve({"password": {"$file": str(tmp_path / "plain")}}) == {"password": "geheim"}
    for name in ("/proc/self/environ", "/proc/thread-self/environ", "/dev/zero", str(tmp_path / "pipe"), str(tmp_path)):
        with pytest.raises(Invalid) as refused:
            everywhere.resolve({"password": {"$file": name}})
        assert refused.value.code == "reference-unresolved"


def test_a_file_that_holds_a_setting_of_the_platform_is_not_given(tmp_path: Path) -> None:
    """Mounted secrets are links; neither the link's name nor another link to the same file is a way in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "..today").mkdir()
    (tmp_path / "..today" / "secret_key").write_text("the platform's own")
    (tmp_path / "..today" / "warehouse").write_text("geheim")
    for name, target in (("secret_key", "..today/secret_key"), ("way-round", "secret_key"), ("w", "..today/warehouse")):
        (tmp_path / name).symlink_to(target)
    settings = Settings.model_validate({"home": tmp_path / "home", "files_allowed_roots": [tmp_path]})
    references = References(settings, {"SECRET_KEY_FILE": str(tmp_path / "secret_key")})
    assert references.resolve({"password": {"$file": str(tmp_path / "w")}}) == {"password": "geheim"}
    for name in ("secret_key", "way-round", "..today/secret_key"):
        with pytest.raises(Invalid, match="a setting of the platform itself"):
            references.resolve({"password": {"$file": str(tmp_path / name)}})
