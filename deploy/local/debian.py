"""Takes server programs out of Debian's packages without root and without touching the system."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dataaggregator.errors import Permanent

# The machine's own sources and proxies count; its hooks, its lists, its cache and its user for downloads do not.
APT_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::State "{folder}/state";
Dir::State::lists "{folder}/lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "{folder}/cache/archives";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
"""
ONLY_WHAT_IT_NEEDS = [
    f"--no-{relation}" for relation in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
]
APT_SECONDS = 600.0


def cache_folder() -> Path:
    """Where fetched packages are unpacked: ``$XDG_CACHE_HOME/dataaggregator/debian``."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "dataaggregator" / "debian"


def fetch(package: str, parts: str, finish: Callable[[Path], None], cache: Path | None = None) -> Path:
    """The folder in which `package` is unpacked, with those packages it depends on whose names match `parts`.

    What is there already is used as it is. `finish` may complete the folder before anybody else sees it. Several
    processes may ask at once: one fetches, the others wait for it.
    """
    cache = cache or cache_folder()
    target = cache / f"{package}-{_release()}"
    if target.is_dir():
        return target
    with _held(cache, package):
        if not target.is_dir():
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
            try:
                _unpack(package, parts, cache, draft)
                finish(draft / "root")
                (draft / "root").rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def library_path(root: Path) -> str:
    """The folders of an unpacked package in which its shared libraries lie."""
    return ":".join(str(folder) for folder in sorted((root / "usr/lib").glob("*-linux-gnu*")))


def _release() -> str:
    """Which system the programs fit: a home may be shared by several."""
    try:
        words = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    except OSError:
        words = {}
    return f"{words.get('ID', 'linux')}-{words.get('VERSION_ID', '0')}-{os.uname().machine}".replace('"', "")


@contextmanager
def _held(cache: Path, package: str) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise _cannot_be_had(package, f"the folder {cache} cannot be written ({error.strerror})") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(package: str, parts: str, cache: Path, draft: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise _cannot_be_had(package, "this machine has no apt-get to fetch it with")
    configuration = _configure(cache)
    if not any((cache / "apt/lists").glob("*Packages*")):
        _update(package, configuration)
    try:
        _download(package, parts, configuration, draft)
    except Permanent:  # lists of yesterday name files that are gone
        _update(package, configuration)
        _download(package, parts, configuration, draft)
    (draft / "root").mkdir(mode=0o755)
    for file in sorted(draft.glob("*.deb")):
        _run(package, ["dpkg", "-x", str(file), str(draft / "root")], draft)


def _configure(cache: Path) -> Path:
    folder = cache / "apt"
    for name in ("state", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    configuration = folder / "apt.conf"
    configuration.write_text(APT_CONFIGURATION.format(folder=folder))
    return configuration


def _update(package: str, configuration: Path) -> None:
    """A source that fails does not matter as long as another one has the packages: the download will tell."""
    _run(package, ["apt-get", "--config-file", str(configuration), "--quiet", "update"], configuration.parent, ok=False)


def _download(package: str, parts: str, configuration: Path, folder: Path) -> None:
    options = ["--config-file", str(configuration)]
    listed = _run(package, ["apt-cache", *options, "depends", "--recurse", *ONLY_WHAT_IT_NEEDS, package], folder)
    names = {package} | {name for name in listed.splitlines() if re.fullmatch(parts, name)}
    _run(package, ["apt-get", *options, "--quiet", "download", *sorted(names)], folder)


def _run(package: str, command: Sequence[str], folder: Path, *, ok: bool = True) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=APT_SECONDS,
        check=False,
    )
    if ok and done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise _cannot_be_had(package, f"{command[0]} says: {said[0] if said else f'exit {done.returncode}'}")
    return done.stdout


def _cannot_be_had(package: str, reason: str) -> Permanent:
    return Permanent(
        "server-not-installed",
        f"{package} is not installed and cannot be fetched, because {reason}: install it, or give this machine the way "
        "to Debian's packages.",
    )
