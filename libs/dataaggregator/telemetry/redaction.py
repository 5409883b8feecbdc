"""Secrets out of everything that is told: by type, by name, and inside addresses."""

import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr

MASK = "********"

#: scheme://user:password@host, and scheme://token@host; the last @ ends either, as for those who read the address.
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s/:@?#]*)(?:[:@][^\s/]*)?@")
_PAIR = re.compile(
    r"(?i)(?P<name>\b[\w-]*(?:password|passwd|secret|token|api[_-]?key|signature|credential)[\w-]*)(?P<sep>=)"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)"
)
_BEARER = re.compile(r"(?i)\b(?P<kind>bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
#: What the platform gives out itself, recognized by how it begins.
_GIVEN_OUT = re.compile(r"\b(?P<kind>da[hr]?_|whsec_)[A-Za-z0-9_+/=-]{16,}")
_NAME = re.compile(
    r"(?i)(^|[_-])(password|passwd|secret|secret_?key|token|api_?key|private_?key|authorization|cookie|credentials?)$"
)


def mask_text(text: str) -> str:
    """Text without passwords in addresses and parameters, tokens of Authorization headers and of hooks."""
    if "://" in text:
        text = _USERINFO.sub(_mask_userinfo, text)
    if "=" in text:
        text = _PAIR.sub(rf"\g<name>\g<sep>{MASK}", text)
    if " " in text:
        text = _BEARER.sub(rf"\g<kind> {MASK}", text)
    if "_" in text:
        text = _GIVEN_OUT.sub(rf"\g<kind>{MASK}", text)
    return text


def redact(value: Any) -> Any:
    """``value`` as plain JSON without secrets."""
    kind = type(value)
    if kind is str:
        return mask_text(value)
    if value is None or kind is int or kind is float or kind is bool:
        return value
    if isinstance(value, SecretStr | SecretBytes | bytes | bytearray):
        return MASK
    if isinstance(value, BaseModel):
        return redact({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        return {str(name): redact_field(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return _plain(value)


def redact_field(name: str, value: Any) -> Any:
    """A field's value, masked whole if its name says that it is a secret."""
    if value is not None and names_a_secret(name):
        return MASK
    return redact(value)


@lru_cache(maxsize=1000)
def names_a_secret(name: str) -> bool:
    """Does a field of this name hold a secret?"""
    return _NAME.search(name) is not None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return redact(value.value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, UUID | PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return redact(asdict(value))
    return mask_text(str(value))


def _mask_userinfo(match: re.Match[str]) -> str:
    user = match["user"]
    shown = f"{user}:{MASK}" if ":" in match[0][len(match["scheme"]) :] else MASK
    return f"{match['scheme']}{shown}@"
