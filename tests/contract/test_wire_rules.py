"""The rules of `make check` for proto/ see what would break a subscriber, and let additions pass."""

import re
import shutil
from pathlib import Path

import pytest

from tests.contract.conftest import ROOT, Tools
from tests.contract.descriptors import messages

RUN = "dataaggregator/v1/run.proto"


@pytest.fixture
def proto(tmp_path: Path) -> Path:
    """A copy of proto/ that may be changed."""
    return Path(shutil.copytree(ROOT / "proto", tmp_path / "proto"))


def change(proto: Path, pattern: str, replacement: str) -> None:
    file = proto / RUN
    text, times = re.subn(pattern, replacement, file.read_text(), count=1, flags=re.DOTALL)
    assert times == 1, pattern
    file.write_text(text)


def test_what_is_there_now_keeps_the_rules(tools: Tools) -> None:
    for words in (("lint",), ("breaking", "--against", str(ROOT / "proto/released.binpb"))):
        done = tools.buf(words[0], str(ROOT / "proto"), *words[1:])
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("pattern", "replacement", "rule"),
    [
        (r"  string executor = 4;\n", "", "executor"),
        (r"string executor = 4;", "string worker = 4;", "worker"),
        (r"string executor = 4;", "string executor = 14;", "executor"),
        (r"string executor = 4;", "int64 executor = 4;", "int64"),
        (r"repeated StageProgress stages", "StageProgress stages", "stages"),
        (r"// It was due but never begun.*?\n}\n", "", "RunSkipped"),
    ],
    ids=["removed", "renamed", "renumbered", "retyped", "no-longer-a-list", "message-removed"],
)
def test_a_change_that_breaks_a_subscriber_is_refused(
    tools: Tools, proto: Path, pattern: str, replacement: str, rule: str
) -> None:
    change(proto, pattern, replacement)
    done = tools.buf("breaking", str(proto), "--against", str(ROOT / "proto/released.binpb"))
    assert done.returncode == 100, done.stdout + done.stderr
    assert rule in done.stdout


def test_an_addition_is_let_pass(tools: Tools, proto: Path) -> None:
    change(proto, r"string executor = 4;", "string executor = 4;\n  optional string host = 40;")
    done = tools.buf("breaking", str(proto), "--against", str(ROOT / "proto/released.binpb"))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(r"string executor = 4;", "string executorName = 4;"), (r"// An executor works on it.\n.*?\n", "")],
    ids=["not-snake-case", "no-comment"],
)
def test_style_is_kept(tools: Tools, proto: Path, pattern: str, replacement: str) -> None:
    change(proto, pattern, replacement)
    assert tools.buf("lint", str(proto)).returncode == 100


def test_what_was_released_is_ours(tools: Tools, tmp_path: Path) -> None:
    """The committed image holds messages of proto/, not an empty baseline that nothing can break."""
    told = tmp_path / "released.json"
    done = tools.buf("build", str(ROOT / "proto/released.binpb"), "--as-file-descriptor-set", "-o", str(told))
    assert done.returncode == 0, done.stderr
    released = set(re.findall(r'"name":\s*"([A-Z]\w+)"', told.read_text()))
    assert {"RunQueued", "RunSucceeded", "Event"} <= released
    assert {name for name in released if name in messages()} >= {"UserCreated", "ConnectorTested"}
