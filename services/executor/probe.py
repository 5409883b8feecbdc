"""probe: connector tests, discovery, previews and transformation tests for other services, where runs run."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.job import Answered, ConnectorUse, DryRunJob, HeldLoad, JobSettings, ProbeJob, ProbeKind
from dataaggregator.dataplane.processes import ProcessPool
from dataaggregator.errors import FieldError, Invalid, Permanent, PlatformError, Transient
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route

PROBE_SECONDS = 55.0
PROBES_AT_ONCE = 4


class ProbeRequest(BaseModel):
    """`probe` says which; the fields it does not need stay out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probe: ProbeKind
    connector: ConnectorUse | None = None
    stream: str | None = None
    query: str | None = None
    pattern: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 20
    transformation: TransformationDefinition | None = None
    sample: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    load: HeldLoad | None = None
    dry_run: DryRunJob | None = None


class ProbeResult(BaseModel):
    """Whatever that probe tells; the caller knows its shape."""

    model_config = ConfigDict(extra="allow")


class Probes:
    """A bounded number at once; a caller who goes away or waits too long ends the process at work for it."""

    def __init__(self, pool: ProcessPool, folder: Path, settings: JobSettings, mask_key: Callable[[UUID], str]) -> None:
        self._pool = pool
        self._folder = folder
        self._settings = settings
        self._mask_key = mask_key
        self._turns = asyncio.Semaphore(PROBES_AT_ONCE)

    def route(self) -> Route:
        return Route(
            "POST",
            "/internal/probe",
            self.probe,
            "Try something out where runs run",
            "internal",
            None,
            body=ProbeRequest,
            answers={200: ProbeResult},
            problems=(502,),
            internal=True,
            max_body_bytes=16 * 1024 * 1024,
        )

    async def probe(self, call: Call) -> Answer:
        return Answer(await self.ask(call.workspace, call.body_as(ProbeRequest)))

    async def ask(self, workspace: UUID, request: ProbeRequest) -> dict[str, Any]:
        """Its result; raises the PlatformError it ended with."""
        try:
            async with asyncio.timeout(PROBE_SECONDS), self._turns:
                answered = await self._perform(workspace, request)
        except TimeoutError as error:
            detail = f"The {request.probe.replace('_', ' ')} did not end within {PROBE_SECONDS:g} seconds."
            raise Transient("probe-timeout", detail) from error
        if answered.error is not None:
            raise _error_of(answered)
        return answered.result or {}

    async def _perform(self, workspace: UUID, request: ProbeRequest) -> Answered:
        folder = await asyncio.to_thread(_make_folder, self._folder)
        try:
            job = ProbeJob(
                workspace_id=workspace,
                mask_key=self._mask_key(workspace),
                folder=str(folder),
                settings=self._settings.of(workspace),
                **_fields_of(request),
            )
            async with self._pool.take(workspace) as process:
                return await process.probe(job)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _fields_of(request: ProbeRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ProbeRequest.model_fields}


def _make_folder(below: Path) -> Path:
    below.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="probe-", dir=below))


def _error_of(answered: Answered) -> PlatformError:
    error = answered.error
    if error is None:
        raise ValueError("a probe that went well has no error")
    if answered.invalid:
        fields = [FieldError(e["field"], e["message"], e["code"]) for e in answered.errors]
        return Invalid(error.code, error.detail, errors=fields)
    if error.retryable:
        return Transient(error.code, error.detail)
    return Permanent(error.code, error.detail)
