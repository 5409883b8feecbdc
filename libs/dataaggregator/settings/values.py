"""Settings, values: what a text of the environment becomes, and what would be right."""

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from dataaggregator.permissions import Role
from dataaggregator.rate import Rate

LABEL = r"[A-Za-z0-9][A-Za-z0-9._/-]*(=[A-Za-z0-9._/-]+)?"
"""What an executor says that it can, and a pipeline that it needs."""

_ROLES = ", ".join(Role)
GROUP_ROLE = re.compile(rf"(?P<group>.+)=(?P<role>{'|'.join(Role)})(@(?P<workspace>[^@]+))?")
"""Whose group has which role, and where."""

STRENGTH = re.compile(r"(?P<claim>acr|amr)=(?P<value>\S+)")
"""Which claim of an id token says what."""


def split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def labels(value: object) -> object:
    return _each(value, re.compile(LABEL), "words such as gpu, or names with a value such as region=eu")


def group_roles(value: object) -> object:
    return _each(value, GROUP_ROLE, f"group=role or group=role@workspace, the role one of {_ROLES}")


def strengths(value: object) -> object:
    return _each(value, STRENGTH, "amr=method or acr=level, such as amr=mfa")


def _each(value: object, pattern: re.Pattern[str], right: str) -> object:
    """Each of the words of a text, which are all to be like this."""
    found = split(value)
    wrong = [one for one in found if not pattern.fullmatch(str(one))] if isinstance(found, tuple) else []
    if wrong:
        raise ValueError(f"should be {right}, not {wrong[0]!r}")
    return found


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def rate(value: object) -> object:
    if not isinstance(value, str):
        return value
    requests, slash, seconds = value.partition("/")
    if not (slash and requests.isdigit() and seconds.isdigit() and int(requests) and int(seconds)):
        raise ValueError("should be requests/seconds, for example 600/60")
    return Rate(int(requests), int(seconds))


def networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        ip_network(value, strict=False)
    return values


def origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """As browsers send them (RFC 6454): what is written otherwise would match none of theirs."""
    for value in values:
        if not re.fullmatch(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?", value):
            raise ValueError("should be scheme://host[:port] without a path, each written out: no * and no null")
    return values


def allowed(values: tuple[str, ...]) -> tuple[str, ...]:
    """What the egress guard may open: hosts and networks, each for all workspaces or for one."""
    return _places(values)


def denied(values: tuple[str, ...]) -> tuple[str, ...]:
    """What it keeps closed; `*` is all that is not allowed by name."""
    return _places(values, "*")


def _places(values: tuple[str, ...], *more: str) -> tuple[str, ...]:
    for value in values:
        place, at, workspace = value.partition("@")
        if not (place in more or _is_place(place)) or (at and not _is_id(workspace)):
            raise ValueError(
                "should be hosts such as db.example.org or *.example.org and networks such as 10.0.0.0/8, each for all "
                f"workspaces or with @ and the id of one, not {value!r}"
            )
    return values


def _is_place(host: str) -> bool:
    try:
        ip_network(host, strict=False)
    except ValueError:
        # No name ends in a number: what does was meant as an address.
        return re.fullmatch(r"(\*\.)?([\w-]+\.)*(?!\d+\.?$)[\w-]+\.?", host) is not None
    return True


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def run_store(root: str) -> str:
    scheme, _, place = root.partition("://")
    if scheme not in ("file", "s3", "az", "gs") or place.startswith("/") is not (scheme == "file"):
        raise ValueError("should be file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix")
    return root


Names = Annotated[tuple[str, ...], BeforeValidator(split)]
Networks = Annotated[Names, AfterValidator(networks)]
Allowed = Annotated[Names, AfterValidator(allowed)]
Denied = Annotated[Names, AfterValidator(denied)]
Origins = Annotated[Names, AfterValidator(origins)]
Labels = Annotated[tuple[str, ...], BeforeValidator(labels)]
Strengths = Annotated[tuple[str, ...], BeforeValidator(strengths)]
GroupRoles = Annotated[tuple[str, ...], BeforeValidator(group_roles)]
Folders = Annotated[tuple[Path, ...], BeforeValidator(split)]
PerTime = Annotated[Rate, BeforeValidator(rate)]
RunStore = Annotated[str, AfterValidator(run_store)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0)]
Url = Annotated[str, Field(pattern=r"^https?://[^/]+$")]
Bytes = Annotated[int, Field(gt=0)]


def checked_scheme(url: SecretStr | None, scheme: str, right: str) -> SecretStr | None:
    if url is not None and not url.get_secret_value().startswith((f"{scheme}://", f"{scheme}s://")):
        raise ValueError(f"should be {right}")
    return url


def is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def written(value: object) -> str:
    """A value as one would write it in the environment; empty for none."""
    match value:
        case None:
            return ""
        case Rate():
            return f"{value.requests}/{value.seconds}"
        case tuple():
            return ",".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)
