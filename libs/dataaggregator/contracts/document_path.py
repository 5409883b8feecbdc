"""Contracts: where something stands in a JSON document: `$` or `$.data.items`."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator

_PATH = re.compile(r"\$(\.[^.\[\]]+)*")


def _path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError("should be a path such as $ or $.data.items")
    return value


DocumentPath = Annotated[str, AfterValidator(_path)]


def at(document: Any, path: str) -> Any:
    """What stands at the path, None where nothing does."""
    for name in path.split(".")[1:]:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document
