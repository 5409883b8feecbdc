"""Opens the connectors of a job: configuration checked, one egress door for all, everything closed at the end."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import Destination
from dataaggregator.connector.egress import Egress, EgressPolicy, HostList
from dataaggregator.connector.kept import Kept
from dataaggregator.connector.registry import connector_type
from dataaggregator.connector.source import Source
from dataaggregator.connector.spec import Config, ConnectorType
from dataaggregator.contracts.parameters import USE
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.job import ConnectorUse, JobSettings
from dataaggregator.errors import FieldError, Invalid

CLOSE_SECONDS = 5.0


class Opening:
    """Makes sources and destinations of one job. `close` closes them, the last one first."""

    def __init__(self, settings: JobSettings, folder: Path, log: logging.Logger, kept: Kept | None = None) -> None:
        self._made_of = settings, folder, log, kept
        self._context = Context(
            egress=Egress(_policy(settings.egress_allow, settings.egress_deny, settings.egress_private)),
            folder=folder,
            allowed_roots=tuple(Path(root) for root in settings.allowed_roots),
            log=log,
            kept=kept,
        )
        self._closing = contextlib.AsyncExitStack()

    def beside(self) -> "Opening":
        """Another one of the same job, to be closed before this one is."""
        return Opening(*self._made_of)

    def source(self, use: ConnectorUse) -> Source:
        type_, config = checked(use)
        if type_.source is None:
            raise Invalid("connector-not-a-source", f"Connectors of type {type_.name} cannot be read from.")
        source = type_.source(config, self._context)
        self._closing.push_async_callback(_closed, source)
        return source

    def destination(self, use: ConnectorUse) -> Destination:
        type_, config = checked(use)
        if type_.destination is None:
            raise Invalid("connector-not-a-destination", f"Connectors of type {type_.name} cannot be written to.")
        destination = type_.destination(config, self._context)
        self._closing.push_async_callback(_closed, destination)
        return destination

    def context(self) -> Context:
        return self._context

    async def close(self) -> None:
        await self._closing.aclose()


@lru_cache(maxsize=8)
def _policy(allow: tuple[str, ...], deny: tuple[str, ...], private: bool) -> EgressPolicy:
    """What the operator has set, read once and not for each job."""
    return EgressPolicy(HostList.parse(allow), HostList.parse(deny), private)


async def _closed(made: Source | Destination) -> None:
    """A system that does not answer any more must not hold up the end of a run."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await made.close()


def checked(use: ConnectorUse) -> tuple[ConnectorType, Config]:
    """The type and its typed configuration; what is wrong with it is told by field, never by value."""
    type_ = connector_type(use.type)
    try:
        return type_, type_.config.model_validate(use.config)
    except ValidationError as error:
        wrong = [
            FieldError(".".join(str(part) for part in one["loc"]), one["msg"], one["type"])
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    named = "; ".join(f"{one.field}: {one.message}" for one in wrong)
    raise Invalid("connector-config-invalid", f"The connector's configuration is wrong: {named}.", errors=wrong)


def destination_names(definition: ResolvedPipeline, values: Mapping[str, Any]) -> list[str]:
    """What the ledger calls each destination, in the definition's order."""
    names: list[str] = []
    for index, destination in enumerate(definition.destinations):
        name = f"{destination.connector_name}/{without_parameters(destination.stream, values)}"
        names.append(f"{name}#{index}" if name in names else name)
    return names


def without_parameters(text: str, values: Mapping[str, Any]) -> str:
    """`{{ parameters.name }}` of a stream's name replaced by its value."""
    return USE.sub(lambda use: str(values.get(use.group(1), use.group())), text)
