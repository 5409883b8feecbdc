"""An installation's secrets are made once, all or none, and never over data that they would not open."""

import os
import stat
from pathlib import Path

import pytest

from dataaggregator.settings import Settings
from deploy.docker.make_secrets import RefusedError, contents, export, main, make, restore


def read(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in contents()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The servers' volumes as they are before the first start."""
    for name in ("postgres", "rabbitmq"):
        (tmp_path / "data" / name).mkdir(parents=True)
    return tmp_path / "data"


def test_a_new_installation_gets_secrets_that_the_settings_take(folder: Path, data: Path) -> None:
    assert make(folder, data)
    names = ("SECRET_KEY", "POSTGRES_PASSWORD", "RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", "REDIS_URL")
    told = {f"{name}_FILE": str(folder / "platform" / name.lower()) for name in names}
    settings = Settings.load({**told, "POSTGRES_HOST": "postgres"})
    assert settings.secret_key is not None
    assert settings.database_url is not None
    assert settings.redis_url is not None


def test_secrets_are_on_the_disk_before_they_have_their_names(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    make(folder, data)
    assert {(folder / name).stat().st_ino for name in contents()} <= synced


def test_a_second_start_changes_nothing(folder: Path, data: Path) -> None:
    make(folder, data)
    before = read(folder)
    (data / "postgres" / "PG_VERSION").touch()
    assert not make(folder, data)
    assert read(folder) == before


def test_no_two_installations_have_a_secret_in_common() -> None:
    one, other = contents(), contents()
    assert not set(one.values()) & set(other.values())


def test_servers_and_platform_are_told_the_same(folder: Path, data: Path) -> None:
    make(folder, data)
    made = read(folder)
    assert made["postgres/platform_password"] == made["platform/postgres_password"]
    assert made["redis/password.conf"] == f"requirepass {made['redis/password']}\n"
    assert f":{made['redis/password']}@redis:6379" in made["platform/redis_url"]
    password = made["rabbitmq/90-user.conf"].split()[-1]
    assert f"dataaggregator:{password}@rabbitmq:" in made["platform/rabbitmq_url"]
    assert f"dataaggregator:{password}@rabbitmq:" in made["platform/rabbitmq_management_url"]


def test_only_whom_a_secret_is_for_may_read_it(folder: Path, data: Path) -> None:
    make(folder, data)
    for name in contents():
        shared = name.split("/")[0] in ("postgres", "rabbitmq", "redis")
        assert stat.S_IMODE((folder / name).stat().st_mode) == (0o444 if shared else 0o400)
        assert stat.S_IMODE((folder / name).parent.stat().st_mode) == (0o755 if shared else 0o700)


@pytest.mark.parametrize("mark", ["postgres/PG_VERSION", "rabbitmq/mnesia"])
def test_over_the_data_of_an_earlier_installation_none_are_made(folder: Path, data: Path, mark: str) -> None:
    (data / mark).touch()
    with pytest.raises(RefusedError, match="its secrets are gone"):
        make(folder, data)
    assert not folder.exists()


def test_where_some_are_missing_none_are_made_up(folder: Path, data: Path) -> None:
    make(folder, data)
    before = (folder / "platform/redis_url").read_text()
    (folder / "platform/secret_key").unlink()
    with pytest.raises(RefusedError, match=r"missing \(platform/secret_key\)"):
        make(folder, data)
    assert not (folder / "platform/secret_key").exists()
    assert (folder / "platform/redis_url").read_text() == before


def test_what_was_exported_can_be_put_back(folder: Path, data: Path, tmp_path: Path) -> None:
    make(folder, data)
    archive = export(folder)
    restore(tmp_path / "elsewhere", archive)
    assert read(tmp_path / "elsewhere") == read(folder)
    with pytest.raises(RefusedError, match="has secrets already"):
        restore(folder, archive)


@pytest.mark.parametrize("archive", [b"", b"no archive", b"\0" * 10_240])
def test_what_is_no_export_is_not_put_back(folder: Path, archive: bytes) -> None:
    with pytest.raises(RefusedError, match="no archive"):
        restore(folder, archive)
    assert not folder.exists()


def test_a_half_made_installation_exports_nothing(folder: Path, data: Path) -> None:
    make(folder, data)
    (folder / "auth/bootstrap_admin_password").unlink()
    with pytest.raises(RefusedError, match="auth/bootstrap_admin_password"):
        export(folder)


def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["print"]) == 2
    assert main([]) == 2
    assert capsys.readouterr().err.count("make, export, import, kubernetes") == 2


def test_nothing_of_a_secret_is_said(folder: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(folder, data)
    said = "".join(capfd.readouterr())
    assert not [name for name, text in read(folder).items() if text in said]
