"""Images under the very names that the Dockerfile and docker-compose.yml use, made without any image registry.

Debian's base system comes by debootstrap; on it Debian's packages stand in for the images of Python and the servers.
The Dockerfile and the compose file are built and run unchanged.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from deploy.local import debian
from deploy.local.docker import DockerEngine

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
# Debian 12 has Python 3.11; Debian 13 the servers' major versions that compose names, and compose itself.
SUITES = {"python": "bookworm", "postgres": "trixie", "rabbitmq": "trixie", "redis": "trixie"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What of pip's configuration is a way to packages; folders of this machine are not there inside an image.
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
MINUTES = 60.0


def named_images() -> dict[str, str]:
    """The images that are taken from elsewhere, by repository: `postgres` for `postgres:17.10-bookworm`."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    names = [service["image"] for service in services.values() if "image" in service]
    names += re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "deploy/docker/Dockerfile").read_text(), re.MULTILINE)
    return {name.partition(":")[0]: name for name in names}


def prepare(engine: DockerEngine) -> None:
    """Make what is not there yet of the images that are taken from elsewhere, and give the client compose."""
    for repository, name in named_images().items():
        if not engine.has_image(name):
            _stand_in(engine, repository, name)
    if not (engine.folder / "client/cli-plugins/docker-compose").exists():
        _add_compose(engine)


def _stand_in(engine: DockerEngine, repository: str, name: str) -> None:
    base = _base(engine, SUITES[repository])
    with tempfile.TemporaryDirectory() as place:
        context = Path(place) / repository
        shutil.copytree(STAND_INS / repository, context)
        if repository == "python":
            _write_way_to_packages(context)
        _build(engine, context, name, base)


def _build(engine: DockerEngine, context: Path, name: str, base: str) -> None:
    arguments = ("--network", "host", "--build-arg", f"BASE={base}", "--tag", name, str(context))
    engine.docker("build", "--quiet", *arguments, seconds=15 * MINUTES)


def _base(engine: DockerEngine, suite: str) -> str:
    """Debian's minimal system of that suite, as an image."""
    name = f"local/debian:{suite}"
    if engine.has_image(name):
        return name
    tool = debian.fetch("debootstrap", "", _complete)
    with tempfile.TemporaryDirectory(dir=engine.folder) as place:
        folder = f"{place}/{suite}"
        keyring = [f"--keyring={KEYRING}"] if KEYRING.exists() else []
        command = [str(tool / "usr/sbin/debootstrap"), "--variant=minbase", *keyring, suite, folder, *_mirror()]
        done = engine.run(
            command, seconds=20 * MINUTES, environment={"DEBOOTSTRAP_DIR": str(tool / "usr/share/debootstrap")}
        )
        assert done.returncode == 0, done.stdout.decode()[-2000:]
        archive = f"{place}/{suite}.tar"
        subprocess.run(["tar", "-C", folder, "-c", "-f", archive, "."], check=True, timeout=5 * MINUTES)
        engine.docker("import", archive, name, seconds=5 * MINUTES)
    return name


def _mirror() -> list[str]:
    """Where this machine has Debian's packages from; debootstrap's own default where apt does not say."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"],
        capture_output=True,
        text=True,
        timeout=MINUTES,
        check=False,
    )
    return asked.stdout.splitlines()[:1]


def _write_way_to_packages(context: Path) -> None:
    """This machine's package index, proxy and authorities for the image in which pip runs; none of it is committed."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=MINUTES, check=True
    )
    found = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed.stdout, re.MULTILINE))
    options = {name: found[name] for name in PIP_OPTIONS if name in found and "file:" not in found[name]}
    configuration = configparser.RawConfigParser()
    configuration["global"] = {**options, "cert": "/etc/ssl/certs/ca-certificates.crt"}
    with (context / "pip.conf").open("w") as file:
        configuration.write(file)
    authorities = found.get("cert") or os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copyfile(authorities, context / "ca-certificates.crt")


def _add_compose(engine: DockerEngine) -> None:
    """Take compose out of Debian 13's package, by an image that can ask for it."""
    base = _base(engine, "trixie")
    with tempfile.TemporaryDirectory() as place:
        context = Path(place)
        (context / "Dockerfile").write_text(
            "ARG BASE\nFROM ${BASE}\n"
            "RUN apt-get update -qq && apt-get download -qq docker-compose && dpkg -x docker-compose*.deb /out\n"
            'CMD ["true"]\n'
        )
        _build(engine, context, "local/compose", base)
        container = engine.docker("create", "local/compose").strip()
        program = context / "docker-compose"
        engine.docker("cp", f"{container}:/out/usr/libexec/docker/cli-plugins/docker-compose", str(program))
        engine.docker("rm", container)
        engine.add_plugin(program)


def _complete(root: Path) -> None:
    """The package needs nothing more than to be unpacked."""
