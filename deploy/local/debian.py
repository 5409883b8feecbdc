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
from deploy.local import foreign

# The machine's own sources and proxies count; its hooks, its lists, its cache and its user for downloads do not.
APT_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::State "{folder}/state";
Dir::State::lists "{folder}/lists";
Dir::State::status "{status}";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "{folder}/cache/archives";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
"""
ONLY_WHAT_IT_NEEDS = [
    f"--no-{relation}" for relation in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
]
# Another release of Debian than the machine's, from the same place and with the same keys.
ANOTHER_RELEASE = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
"""
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What the machine has of its own release must come along with another one's programs.
LIBRARIES = r"lib.*|zlib1g"
APT_SECONDS = 600.0


def cache_folder() -> Path:
    """Where fetched packages are unpacked: ``$XDG_CACHE_HOME/dataaggregator/debian``."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "dataaggregator" / "debian"


def fetch(
    package: str, parts: str, finish: Callable[[Path], None], cache: Path | None = None, *, release: str | None = None
) -> Path:
    """The folder in which `package` is unpacked, with those packages it depends on whose names match `parts`.

    With a `release` of Debian by its code name, from there: its programs bring all their libraries, see `foreign`.
    What is there already is used as it is. `finish` may complete the folder before anybody else sees it. Several
    processes may ask at once: one fetches, the others wait for it.
    """
    cache = cache or cache_folder()
    if release == _words().get("VERSION_CODENAME"):
        release = None
    target = cache / f"{package}-{_system() if release is None else f'{release}-{os.uname().machine}'}"
    if target.is_dir():
        return target
    with _held(cache, package):
        if not target.is_dir():
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
            try:
                _unpack(package, parts, cache, draft, release)
                if release is not None:
                    foreign.bring_along(draft / "root")
                finish(draft / "root")
                (draft / "root").rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def library_path(root: Path) -> str:
    """The folders of an unpacked package in which its shared libraries lie; none where its programs know them."""
    return (
        ""
        if foreign.loader(root)
        else ":".join(str(folder) for folder in sorted((root / "usr/lib").glob("*-linux-gnu*")))
    )


def _system() -> str:
    """Which system the programs fit: a home may be shared by several."""
    words = _words()
    return f"{words.get('ID', 'linux')}-{words.get('VERSION_ID', '0')}-{os.uname().machine}"


def _words() -> dict[str, str]:
    """What the system calls itself."""
    try:
        lines = Path("/etc/os-release").read_text().replace('"', "").splitlines()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


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


def _unpack(package: str, parts: str, cache: Path, draft: Path, release: str | None) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise _cannot_be_had(package, "this machine has no apt-get to fetch it with")
    configuration = _configure(package, cache, release)
    if not any((configuration.parent / "lists").glob("*Packages*")):
        _update(package, configuration)
    if release is not None:
        parts = f"{parts}|{LIBRARIES}"
    try:
        _download(package, parts, configuration, draft)
    except Permanent:  # lists of yesterday name files that are gone
        _update(package, configuration)
        _download(package, parts, configuration, draft)
    (draft / "root").mkdir(mode=0o755)
    for file in sorted(draft.glob("*.deb")):
        _run(package, ["dpkg", "-x", str(file), str(draft / "root")], draft)


def _configure(package: str, cache: Path, release: str | None) -> Path:
    folder = cache / ("apt" if release is None else f"apt-{release}")
    for name in ("state", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    configuration = folder / "apt.conf"
    if release is None:
        text = APT_CONFIGURATION.format(folder=folder, status="/var/lib/dpkg/status")
    else:
        place = _place_of_debian(package, folder)
        (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] {place} {release} main\n")
        text = (APT_CONFIGURATION + ANOTHER_RELEASE).format(folder=folder, status="/dev/null")
    configuration.write_text(text)
    return configuration


def _place_of_debian(package: str, folder: Path) -> str:
    """Where this machine gets its own release from: the others lie beside it."""
    own = _words().get("VERSION_CODENAME", "")
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = _run(package, ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], folder).splitlines()
    places = [line.split()[0] for line in listed if line.split()[1:] == [own, "main"]]
    if not places or not KEYS.exists():
        raise _cannot_be_had(package, "this machine has no source of Debian's packages to take another release from")
    return places[0]


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
