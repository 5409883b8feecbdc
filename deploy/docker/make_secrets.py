"""Run by compose before everything else: makes the secrets of an installation once, each reader's in its own folder.

make        makes what a new installation needs; an installation that has its secrets keeps them
export      writes them as a tar archive to standard output, for the backup
import      puts an archive from standard input back, where there are none yet
kubernetes  writes new ones as Secret objects to standard output, for `kubectl create -f -`

Only the standard library: it runs in the services' image, but belongs to no service.
"""

import json
import os
import secrets
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

FOLDER = Path("/secrets")
DATA = Path("/data")
USER = "dataaggregator"
# Read by the servers' own users, who alone have these volumes mounted; the others belong to the services' user.
READ_BY_SERVERS = ("postgres", "rabbitmq", "redis")
# What a server's volume holds once that has been started.
USED_BY = {"postgres": "PG_VERSION", "rabbitmq": "mnesia"}
ADMINISTRATOR = """\
The secrets of this installation are made. To see the first administrator's password:
  docker compose exec auth cat /run/dataaggregator/auth/bootstrap_admin_password
Back them up: without them neither the database nor the connectors' secrets in it can be opened.
  docker compose run --rm -T secrets export > dataaggregator-secrets.tar
"""


PUT_BACK = "docker compose run --rm -T secrets import < dataaggregator-secrets.tar"


class RefusedError(Exception):
    """Why nothing was done, and what to do."""


def _passwords() -> dict[str, str]:
    return {name: secrets.token_urlsafe(32) for name in ("owner", "platform", "rabbitmq", "redis", "administrator")}


def contents() -> dict[str, str]:
    """A new installation's secrets: the text of each file by its place below the folder."""
    made = _passwords()
    rabbitmq = f"{USER}:{made['rabbitmq']}@rabbitmq"
    return {
        "platform/secret_key": secrets.token_urlsafe(48),
        "platform/postgres_password": made["platform"],
        "platform/rabbitmq_url": f"amqp://{rabbitmq}:5672/%2F",
        "platform/rabbitmq_management_url": f"http://{rabbitmq}:15672",
        "platform/redis_url": f"redis://:{made['redis']}@redis:6379/0",
        "auth/bootstrap_admin_password": made["administrator"],
        "postgres/owner_password": made["owner"],
        "postgres/platform_password": made["platform"],
        "rabbitmq/90-user.conf": f"default_user = {USER}\ndefault_pass = {made['rabbitmq']}\n",
        "redis/password.conf": f"requirepass {made['redis']}\n",
        "redis/password": made["redis"],
    }


def make(folder: Path, data: Path) -> bool:
    """Make all secrets, or none if all are there; True if they were made."""
    wanted = contents()
    missing = [name for name in wanted if not (folder / name).is_file()]
    if not missing:
        return False
    if len(missing) < len(wanted):
        raise RefusedError(
            f"Some secrets of this installation are missing ({', '.join(missing)}), others are there. "
            "Remove what is left of them, and put all back from the backup: " + PUT_BACK
        )
    held = [name for name, mark in USED_BY.items() if _was_used(data / name, mark)]
    if held:
        raise RefusedError(
            f"There is data of an earlier installation ({', '.join(held)}), but its secrets are gone, and new ones "
            f"would not open it. Put them back: {PUT_BACK}"
        )
    _write(folder, wanted)
    return True


def export(folder: Path) -> bytes:
    """All secrets as a tar archive."""
    missing = [name for name in contents() if not (folder / name).is_file()]
    if missing:
        raise RefusedError(f"There is nothing whole to export: {', '.join(missing)} is missing.")
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in contents():
            text = (folder / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o400
            archive.addfile(member, BytesIO(text))
    return buffer.getvalue()


def restore(folder: Path, archive: bytes) -> None:
    """Put an exported archive back; only the files that are known, and only where there are none."""
    there = [name for name in contents() if (folder / name).is_file()]
    if there:
        raise RefusedError(f"This installation has secrets already ({', '.join(there)}): they stay as they are.")
    found: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=BytesIO(archive), mode="r") as opened:
            for name in contents():
                member = opened.extractfile(name)
                if member is None:
                    raise KeyError(name)
                found[name] = member.read().decode()
    except (tarfile.TarError, KeyError, UnicodeDecodeError) as error:
        raise RefusedError(f"This is no archive that `export` wrote: {error}.") from error
    _write(folder, found)


def manifests() -> str:
    """A new installation's secrets as objects of a cluster, one for each reader."""
    readers: dict[str, dict[str, str]] = {}
    for name, text in contents().items():
        reader, _, file = name.partition("/")
        readers.setdefault(reader, {})[file] = text
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": f"dataaggregator-{reader}", "labels": {"app.kubernetes.io/part-of": "dataaggregator"}},
            "stringData": files,
        }
        for reader, files in readers.items()
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1) + "\n"


def _was_used(folder: Path, mark: str) -> bool:
    """A volume is open until its server closes it to everybody else."""
    try:
        return (folder / mark).exists()
    except PermissionError:
        return True


def _write(folder: Path, texts: dict[str, str]) -> None:
    """The platform's last: whoever stops halfway leaves an installation that says what is missing."""
    for name, text in sorted(texts.items(), key=lambda item: item[0].startswith("platform/")):
        path = folder / name
        shared = path.parent.name in READ_BY_SERVERS
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755 if shared else 0o700)
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o444 if shared else 0o400)
        draft.rename(path)


def _make() -> None:
    if make(FOLDER, DATA):
        sys.stderr.write(ADMINISTRATOR)


def _export() -> None:
    _hide()
    sys.stdout.buffer.write(export(FOLDER))


def _kubernetes() -> None:
    _hide()
    sys.stdout.write(manifests())


def _hide() -> None:
    if sys.stdout.isatty():
        raise RefusedError("Secrets are not shown on a terminal: send them into a file or another program.")


def _import() -> None:
    restore(FOLDER, sys.stdin.buffer.read())


COMMANDS: dict[str, Callable[[], None]] = {
    "make": _make,
    "export": _export,
    "import": _import,
    "kubernetes": _kubernetes,
}


def main(arguments: list[str]) -> int:
    """Carry out one command; what is refused is one sentence and exit code 2."""
    command = COMMANDS.get(arguments[0]) if len(arguments) == 1 else None
    try:
        if command is None:
            raise RefusedError(f"Say what to do with the secrets: {', '.join(COMMANDS)}.")
        command()
    except RefusedError as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
