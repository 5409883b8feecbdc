"""The embedded home: closed to others, kept between starts, never shared by two platforms."""

import os
import stat
from pathlib import Path

import pytest

from dataaggregator.embedded.home import Home
from dataaggregator.errors import Conflict, Permanent


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_closed_to_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    home.secret_key()
    home.make_credentials(None, None)
    assert mode(home.path) == 0o700
    assert {mode(home.path / name) for name in ("secret.key", "admin.json")} == {0o600}


def test_a_second_platform_on_the_same_home_is_refused_and_told_where_the_first_is(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with home.locked():
        home.announce("http://127.0.0.1:4711")
        with pytest.raises(Conflict, match=r"http://127\.0\.0\.1:4711") as refused, home.locked():
            pass
        assert refused.value.code == "already-running"
    with home.locked():
        assert home.gateway_url() is None


def test_what_was_made_up_once_stays(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    email, password, new = home.make_credentials(None, None)
    assert new
    assert home.make_credentials(None, None) == (email, password, False)
    assert home.secret_key() == home.secret_key()
    assert len(home.secret_key()) >= 32


def test_a_password_that_was_given_is_written_nowhere(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    assert home.make_credentials("a@example.org", "given password") == ("a@example.org", "given password", False)
    assert home.credentials() is None
    assert not [path for path in home.path.rglob("*") if path.is_file() and "given password" in path.read_text()]


def test_a_home_that_cannot_be_made_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent, match="DATAAGGREGATOR_HOME"):
        Home(tmp_path / "file" / "home").make()


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAAGGREGATOR_HOME", str(tmp_path / "named"))
    assert Home.default().path == tmp_path / "named"


def test_a_key_that_was_told_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    home = Home(tmp_path / "home")
    home.make()
    home.secret_key()
    assert {path.stat().st_ino for path in (home.path, home.path / "secret.key")} <= synced
