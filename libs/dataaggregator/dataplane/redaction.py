"""Keeps the secrets of a job's connectors out of every text that leaves its run process."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from dataaggregator.connector.registry import connector_types
from dataaggregator.connector.spec import map_secrets
from dataaggregator.contracts.secret import MASK
from dataaggregator.dataplane.job import ConnectorUse

_USERINFO = re.compile(r"(?<=://)[^/\s:]*:[^/\s]*(?=@)")
SHORTEST = 4  # masking every "a" would hide nothing and garble everything
FREE_TEXTS = frozenset({"detail", "reason", "reasons", "position", "warnings"})
"""Where an outcome speaks in words. The rest of it names, counts and decides: a password may be a word of it."""


class Redaction:
    """Replaces known secrets, as they are and URL-decoded, and whatever looks like a password inside a URL."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {form for secret in secrets for form in (secret, unquote(secret)) if len(form) >= SHORTEST}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    @classmethod
    def of(cls, uses: Iterable[ConnectorUse], mask_key: str) -> "Redaction":
        return cls([mask_key, *(secret for use in uses for secret in _secrets(use))])

    def text(self, text: str) -> str:
        text = _storable(text)
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return _USERINFO.sub(MASK, text)

    def value(self, value: Any) -> Any:
        """The same for every text inside a JSON value; keys are ours and stay, but for what nobody could store."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {_storable(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def outcome(self, value: Any) -> Any:
        """The same for what an outcome says in words; its other texts are as they are, where anybody can store them."""
        if isinstance(value, dict):
            return {
                _storable(key): self.value(item) if key in FREE_TEXTS else self.outcome(item)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.outcome(item) for item in value]
        return _storable(value) if isinstance(value, str) else value


def _storable(text: str) -> str:
    """A name of a file may hold half a character, a row a NUL: no wire takes the one, no table the other."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _secrets(use: ConnectorUse) -> list[str]:
    type_ = connector_types().get(use.type)
    if type_ is None:
        return []
    found: list[str] = []
    map_secrets(type_, use.config, lambda _, secret: found.append(secret))
    return found
