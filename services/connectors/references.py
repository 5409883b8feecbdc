"""Connectors: what {"$env": …} and {"$file": …} stand for, looked up only when an executor asks."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataaggregator.contracts.fields import field_path
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.settings import Settings, secret_files
from services.connectors.domain import Path as Place
from services.connectors.domain import with_references

SECRET_FOLDERS = (Path("/run/secrets"), Path("/var/run/secrets"))
KERNEL_FOLDERS = (Path("/proc"), Path("/sys"), Path("/dev"))
FILE_BYTES = 64 * 1024
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class References:
    """The environment and plain files of this service, but never the platform's own settings, home or process.

    Without that guard whoever may write a connector could have SECRET_KEY sent to a server of theirs.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._own = {name.upper() for name in Settings.model_fields} | {"DATAAGGREGATOR_HOME"}
        self._home = settings.home.resolve()
        self._roots = (*SECRET_FOLDERS, *(root.resolve() for root in settings.files_allowed_roots))

    def resolve(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A copy with values in place of references; raises Invalid("reference-unresolved") naming each that fails."""
        wrong: list[FieldError] = []

        def look_up(reference: Mapping[str, Any], place: Place) -> str:
            [(kind, name)] = reference.items()
            try:
                return self._variable(name) if kind == "$env" else self._file(name)
            except LookupError as error:
                wrong.append(FieldError(field_path(("config", *place)), str(error.args[0]), "reference"))
                return ""

        resolved: dict[str, Any] = with_references(config, look_up)
        if wrong:
            detail = "; ".join(f"{one.field}: {one.message}" for one in wrong)
            raise Invalid("reference-unresolved", f"{detail}.", errors=wrong)
        return resolved

    def _variable(self, name: str) -> str:
        if not _NAME.match(name):
            raise LookupError(f"{name!r} is not the name of an environment variable")
        if name.upper() in self._own or name.upper().startswith("DATAAGGREGATOR_"):
            raise LookupError(f"{name} is a setting of the platform itself and not for connectors")
        if name not in self._environment:
            raise LookupError(f"the environment variable {name} is not set for the connectors service")
        return self._environment[name]

    def _file(self, name: str) -> str:
        path = Path(name).resolve()
        inside = any(path.is_relative_to(root) for root in self._roots)
        if not inside or any(path.is_relative_to(folder) for folder in (self._home, *KERNEL_FOLDERS)):
            raise LookupError(f"{name} lies in none of the folders that FILES_ALLOWED_ROOTS names")
        # Resolved anew each time: where secrets are mounted, their links are moved when they are replaced.
        if path in {own.resolve() for own in secret_files(self._environment).values()}:
            raise LookupError(f"{name} holds a setting of the platform itself and is not for connectors")
        try:
            with open(path, encoding="utf-8", opener=_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise LookupError(f"{name} is not a plain file")
                text = file.read(FILE_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise LookupError(f"{name} cannot be read: {reason}") from error
        if len(text) > FILE_BYTES:
            raise LookupError(f"{name} is larger than {FILE_BYTES} bytes")
        return text.rstrip("\r\n")


def _at_once(path: str, flags: int) -> int:
    """Opening a pipe would otherwise wait for as long as nobody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)
