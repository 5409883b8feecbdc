"""Programs of another release start with the loader and the libraries that came with them, wherever they lie."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local import foreign


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As unpacked: a program, a loader and a C library, here the machine's own."""
    loader = foreign.loader(Path("/"))
    if loader is None:
        pytest.skip("the machine's libraries do not lie as Debian's do")
    root = tmp_path / "draft"
    libraries, programs = root / loader.parent.relative_to("/"), root / "usr/bin"
    for folder in (libraries, programs):
        folder.mkdir(parents=True)
    for file in (loader, loader.parent / "libc.so.6"):
        shutil.copy(file, libraries)
    shutil.copy("/bin/cat", programs)
    (programs / "link").symlink_to("cat")
    return root


def test_a_program_starts_with_what_came_with_it_also_after_a_move(root: Path, tmp_path: Path) -> None:
    foreign.bring_along(root)
    there = root.rename(tmp_path / "there")
    for name in ("cat", "link"):
        command = [str(there / "usr/bin" / name), "/proc/self/maps"]
        done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
        mapped = {line.split()[-1] for line in done.stdout.splitlines() if ".so" in line}
        assert mapped
        assert all(path.startswith(str(there)) for path in mapped)


def test_a_library_stays_what_it_is(root: Path) -> None:
    foreign.bring_along(root)
    loader = foreign.loader(root)
    assert loader is not None
    assert loader.read_bytes()[:4] == b"\x7fELF"
