"""run_store: which run store the settings name; without one, rejected rows stay on the executor's disk."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from dataaggregator.run_store import RunStore
from dataaggregator.run_store.local import LocalRunStore
from dataaggregator.settings import Settings, SettingsError


def run_store_of(settings: Settings) -> RunStore | None:
    """Raises SettingsError, a line for each thing that is wrong; whether the store answers is not asked."""
    if settings.run_store is None:
        return None
    if settings.run_store.startswith("file:"):
        return LocalRunStore(Path(unquote(urlsplit(settings.run_store).path)))
    # The library of buckets takes a while to import: only who has one pays for it.
    from dataaggregator_connectors.files.config import FilesConfig  # noqa: PLC0415
    from dataaggregator_connectors.files.run_bucket import RunBucket  # noqa: PLC0415

    try:
        config = FilesConfig.model_validate(_as_connector(settings))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        told = [".".join(map(str, one["loc"])) + ": " + one["msg"].removeprefix("Value error, ") for one in found]
        raise SettingsError("\n".join(f"RUN_STORE: {one.removeprefix(': ')}." for one in told)) from None
    try:
        return RunBucket(config)
    except ValueError as error:
        raise SettingsError(f"RUN_STORE_CREDENTIALS, RUN_STORE_SSLROOTCERT: one of them is {error}.") from None


def _as_connector(settings: Settings) -> dict[str, Any]:
    given: dict[str, Any] = {"root": settings.run_store, "endpoint": settings.run_store_endpoint}
    if settings.run_store_region is not None:
        given["region"] = settings.run_store_region
    if settings.run_store_credentials is not None:
        credentials = json.loads(settings.run_store_credentials.get_secret_value())
        # The key of a service account is JSON itself and may stand there as such.
        given["credentials"] = {
            name: json.dumps(value) if isinstance(value, dict) else value for name, value in credentials.items()
        }
    if settings.run_store_sslrootcert is not None:
        try:
            given["sslrootcert"] = settings.run_store_sslrootcert.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise SettingsError(
                f"RUN_STORE_SSLROOTCERT={settings.run_store_sslrootcert}: should name a file with certificates (PEM)."
            ) from None
    return given
