"""Programs out of Debian's packages: fetched once, whole or not at all, with a plain sentence where it cannot be."""

import multiprocessing
from pathlib import Path

import pytest

from dataaggregator.errors import Permanent
from deploy.local import debian

SMALL = "liblzf1"


def finish(root: Path) -> None:
    with (root / "finished").open("a") as file:
        file.write("once\n")


def fetch_small(cache: str) -> str:
    return str(debian.fetch(SMALL, "(?!)", finish, Path(cache)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


def test_two_processes_that_ask_at_once_get_the_same_whole_folder(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(fetch_small, [str(cache)] * 2)
    assert first == second
    assert (Path(first) / "finished").read_text() == "once\n"
    assert list(Path(first).rglob("liblzf.so*"))
    assert list(cache.glob("draft-*")) == []


def test_what_was_fetched_is_used_without_apt(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = fetch_small(str(cache))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch_small(str(cache)) == there


def test_a_machine_without_apt_is_told_so_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Permanent, match="liblzf1 is not installed and cannot be fetched, because this machine has no"):
        fetch_small(str(tmp_path))


def test_packages_that_cannot_be_had_are_told_in_a_sentence_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "nowhere.list"
    sources.write_text("deb [trusted=yes] http://127.0.0.1:9/debian nowhere main\n")
    away = f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "-";\nAcquire::Retries "0";\n'
    monkeypatch.setattr(debian, "APT_CONFIGURATION", debian.APT_CONFIGURATION + away)
    with pytest.raises(Permanent, match="liblzf1 is not installed and cannot be fetched, because apt"):
        fetch_small(str(tmp_path))
    assert list(tmp_path.glob("draft-*")) == list(tmp_path.glob("liblzf1*")) == []
    assert "\n" not in str(debian._cannot_be_had(SMALL, "no"))


def test_an_unwritable_cache_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Permanent, match="cannot be written"):
        fetch_small(str(tmp_path / "file"))
