"""What a newcomer types first, and what the README says of it."""

import os
import subprocess
from pathlib import Path

from tests.e2e.platform import PROGRAM


def play(home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "DATAAGGREGATOR_HOME": str(home), "COLUMNS": "160"}
    return subprocess.run(
        [str(PROGRAM), "demo"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_main_job_delivers_and_adds_up_and_can_be_played_again_on_the_same_home(tmp_path: Path) -> None:
    first = play(tmp_path / "home")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Balanced: every row is accounted for." in first.stdout
    assert "Both destinations equal a computation done without the platform" in first.stdout
    assert "nothing is doubled" in first.stdout

    second = play(tmp_path / "home")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "nothing is doubled" in second.stdout
    assert "Administrator (made at this first start" not in second.stdout


def test_no_secret_of_the_home_is_printed_but_the_password_once(tmp_path: Path) -> None:
    done = play(tmp_path / "home")
    printed = done.stdout + done.stderr
    kept = [tmp_path / "home" / name for name in ("secret.key", "demo.password", "postgres/password")]
    assert [path.name for path in kept if path.read_text().strip() in printed] == []
