"""Connectors, domain: what a connector is, and how its configuration is checked and parted from its secrets."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.connector.spec import ConnectorType, map_secrets
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.contracts.fields import field_errors, field_path
from dataaggregator.contracts.secret import MASK
from dataaggregator.definition import Saved
from dataaggregator.errors import FieldError, Invalid

REFERENCE_KINDS = ("$env", "$file")
STAND_IN = "reference"
"""What a reference is taken for while the rest of the configuration is checked: its value is not known here."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Connector(Saved[ConnectorDefinition]):
    """A saved connector; in its definition every secret is masked."""


@dataclass(frozen=True)
class Parted:
    """A configuration without its secrets (masked), and the secrets by their field."""

    config: dict[str, Any]
    secrets: Mapping[str, str] = field(repr=False)


def part(type_: ConnectorType, config: Mapping[str, Any], kept: Mapping[str, str]) -> Parted:
    """Check a configuration and take the secrets out; `kept` are those stored so far, opened.

    Raises Invalid("config-invalid") naming every wrong field; `"********"` stands for the secret that is stored.
    """
    wrong: list[FieldError] = []
    secrets: dict[str, str] = {}

    def take(at: str, text: str) -> str:
        if text != MASK:
            secrets[at] = text
        elif at in kept:
            secrets[at] = kept[at]
        else:
            wrong.append(
                FieldError(f"config.{at}", "no secret is stored here: send the secret itself", "missing-field")
            )
        return MASK

    masked = map_secrets(type_, config, take)
    wrong += _wrong_references(config)
    wrong += _wrong_fields(type_, filled(type_, masked, lambda at: secrets.get(at, MASK)))
    if wrong:
        raise Invalid("config-invalid", f"This is not a configuration of type {type_.name}.", errors=wrong)
    return Parted(masked, secrets)


def filled(type_: ConnectorType, config: Mapping[str, Any], open_secret: Callable[[str], str]) -> dict[str, Any]:
    """The configuration with each masked secret in its place."""
    return map_secrets(type_, config, lambda at, text: open_secret(at) if text == MASK else text)


def secret_aad(workspace: UUID, connector: UUID, at: str) -> str:
    """What a secret is bound to: it opens nowhere else (RELIABILITY, rule 19)."""
    return f"{workspace}|{connector}|{at}"


def with_variables(name: str, config: Mapping[str, Any], taken: set[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration with a variable of the environment in place of each masked secret, and these: name → field.

    No two have one name; what is `taken` grows.
    """
    variables: dict[str, str] = {}

    def placed(value: Any, path: Path) -> Any:
        if isinstance(value, Mapping):
            return {key: placed(below, (*path, key)) for key, below in value.items()}
        if value != MASK:
            return value
        field_ = field_path(path)
        wanted = re.sub(r"[^A-Za-z0-9]+", "_", f"connector {name} {field_}").upper()
        free = next(one for one in (wanted, *(f"{wanted}_{n}" for n in range(2, len(taken) + 3))) if one not in taken)
        taken.add(free)
        variables[free] = field_
        return {"$env": free}

    return placed(config, ()), variables


def references(config: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every object that has a key of a reference, with its place."""
    if isinstance(config, Mapping):
        if any(kind in config for kind in REFERENCE_KINDS):
            yield path, config
            return
        for name, value in config.items():
            yield from references(value, (*path, name))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from references(value, (*path, index))


def with_references(config: Any, resolve: Callable[[Mapping[str, Any], Path], Any], path: Path = ()) -> Any:
    """A copy with every reference replaced by `resolve(reference, place)`."""
    if isinstance(config, Mapping):
        if any(kind in config for kind in REFERENCE_KINDS):
            return resolve(config, path)
        return {name: with_references(value, resolve, (*path, name)) for name, value in config.items()}
    if isinstance(config, list):
        return [with_references(value, resolve, (*path, index)) for index, value in enumerate(config)]
    return config


def _wrong_references(config: Mapping[str, Any]) -> Iterator[FieldError]:
    for path, reference in references(config):
        value = next(iter(reference.values()))
        if len(reference) != 1 or not isinstance(value, str) or not value:
            message = 'a reference is {"$env": "NAME"} or {"$file": "path"} and nothing else'
            yield FieldError(field_path(("config", *path)), message, "reference")


def _wrong_fields(type_: ConnectorType, config: Mapping[str, Any]) -> Iterator[FieldError]:
    unknown_values = [field_path(path) for path, _ in references(config)]
    try:
        type_.config.model_validate(with_references(config, lambda *_: STAND_IN))
    except ValidationError as error:
        for wrong in field_errors(error):
            at = _as_written(wrong.field, config)
            if not any(_touches(at, unknown) for unknown in unknown_values):
                yield FieldError(f"config.{at}" if at else "config", wrong.message, wrong.code)


def _touches(at: str, unknown: str) -> bool:
    """Whether an error may come from a value that is not known: it is there, inside it or around it."""
    return at in ("", unknown) or at.startswith((f"{unknown}.", f"{unknown}[")) or unknown.startswith(f"{at}.")


def _as_written(path: str, config: Mapping[str, Any]) -> str:
    """A field path without the parts that name a variant of the model and not a field of the configuration."""
    here: Any = config
    kept: list[str] = []
    parts = path.split(".")
    for number, name in enumerate(parts):
        inside = isinstance(here, Mapping) and name.split("[")[0] in here
        if inside or number == len(parts) - 1 or not isinstance(here, Mapping):
            kept.append(name)
        if inside:
            here = here[name.split("[")[0]]
    return ".".join(kept)
