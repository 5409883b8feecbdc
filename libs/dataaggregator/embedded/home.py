"""The one folder of an embedded platform: what lies where in it, and who may read it."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataaggregator.durable import write_private
from dataaggregator.errors import Conflict, Permanent

ROOT_HOME = Path("/var/lib/dataaggregator")
ADMIN_EMAIL = "admin@localhost.localdomain"


@dataclass(frozen=True)
class Home:
    """``DATAAGGREGATOR_HOME``; only its owner may look inside."""

    path: Path

    @classmethod
    def default(cls) -> "Home":
        """The folder named in the environment, else ``~/.dataaggregator`` (root: /var/lib/dataaggregator)."""
        named = os.environ.get("DATAAGGREGATOR_HOME")
        if named:
            return cls(Path(named).absolute())
        return cls(ROOT_HOME if os.geteuid() == 0 else Path.home() / ".dataaggregator")

    @property
    def postgres(self) -> Path:
        """The private server's folder."""
        return self.path / "postgres"

    @property
    def runs(self) -> Path:
        """A folder for each run: extracts, quarantine, logs of its processes."""
        return self.path / "runs"

    def make(self) -> None:
        """Make the folder, closed to others."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
            self.runs.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise Permanent(
                "folder-not-writable",
                f"The folder {self.path} cannot be used ({error.strerror}): "
                "make it writable, or set DATAAGGREGATOR_HOME to a folder that is.",
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home: two platforms on one folder would ruin each other."""
        self.make()
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    "already-running",
                    f"A platform runs on {self.path} already"
                    f" ({self.gateway_url() or 'it is just starting'}): use it, stop it, or set another"
                    " DATAAGGREGATOR_HOME.",
                ) from error
            try:
                yield
            finally:
                (self.path / "gateway.url").unlink(missing_ok=True)

    @property
    def moved(self) -> Path:
        """The file that says that the installation was exported, to go on elsewhere."""
        return self.path / "moved"

    def check_not_moved(self) -> None:
        """Two installations that are one would load everything twice."""
        if self.moved.exists():
            raise Conflict(
                "installation-moved",
                f"This installation was exported ({self.moved.read_text().strip()}) and goes on where it was imported."
                f" If it is to go on here instead, delete {self.moved} and start again.",
            )

    def secret_key(self) -> str:
        """The key that seals connectors' secrets, made at the first start."""
        return self._kept("secret.key", lambda: secrets.token_urlsafe(48))

    def kept_secret_key(self) -> str | None:
        """That key, if it was made."""
        try:
            return (self.path / "secret.key").read_text().strip()
        except OSError:
            return None

    def credentials(self) -> tuple[str, str] | None:
        """E-mail and password of the first administrator, where this user may read them."""
        try:
            kept: dict[str, Any] = json.loads((self.path / "admin.json").read_text())
        except OSError:
            return None
        return str(kept["email"]), str(kept["password"])

    def make_credentials(self, email: str | None, password: str | None) -> tuple[str, str, bool]:
        """The first administrator's e-mail and password; True when they were made up just now.

        A password that the environment gave is written nowhere.
        """
        if email and password:
            return email, password, False
        kept = self.credentials()
        if kept is not None:
            return *kept, False
        made = {"email": email or ADMIN_EMAIL, "password": password or secrets.token_urlsafe(18)}
        self._kept("admin.json", lambda: json.dumps(made))
        return made["email"], made["password"], True

    def gateway_url(self) -> str | None:
        """Where the platform that runs on this home answers."""
        try:
            return (self.path / "gateway.url").read_text().strip()
        except OSError:
            return None

    def announce(self, url: str) -> None:
        """Write down where the gateway answers, for the command line."""
        draft = self.path / "gateway.url.draft"
        draft.write_text(url + "\n")
        draft.rename(self.path / "gateway.url")  # whoever waits for it never reads half of it

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.path / name
        if not path.exists():
            write_private(path, make())
        return path.read_text().strip()
