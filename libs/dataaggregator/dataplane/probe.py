"""Probes: a connector tested, its streams found, a few rows shown, steps tried on a sample; nothing is written."""

import asyncio
import dataclasses
import logging
import traceback
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from dataaggregator.catalogue import help_section
from dataaggregator.connector.destination import CountingDestination, Destination, LoadRequest, WriteKind
from dataaggregator.connector.destination import Receipt as HeldReceipt
from dataaggregator.connector.source import ListingSource, ReadRequest
from dataaggregator.contracts.ledger import Receipt
from dataaggregator.dataplane.chunks import receipts_added
from dataaggregator.dataplane.dry_run.answer import dry_run
from dataaggregator.dataplane.dry_run.rehearsal import Tools
from dataaggregator.dataplane.failures import leaf, run_error
from dataaggregator.dataplane.job import Answered, ConnectorUse, HeldLoad, ProbeJob, ReadBack
from dataaggregator.dataplane.load import told
from dataaggregator.dataplane.opening import Opening, checked
from dataaggregator.dataplane.report import Reporter
from dataaggregator.dataplane.showing import rows_as_json, schema_as_json
from dataaggregator.dataplane.trial import try_out
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.errors import Invalid, PlatformError

RECOUNT_SECONDS = 30.0
MOST_FILES = 10_000


async def answer(job: ProbeJob, sandboxes: WarmSandbox, report: Reporter) -> Answered:
    folder = Path(job.folder)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    opening = Opening(job.settings, folder, logging.getLogger("dataaggregator.connector"))
    try:
        return Answered(result=await _result(job, opening, sandboxes, report))
    except Exception as error:
        cause, _ = leaf(error)
        if not isinstance(cause, PlatformError):
            trace = "".join(traceback.format_exception(cause))
            report.log("error", f"the probe {job.probe} failed", trace=trace)
            return Answered(error=run_error(error))
        wrong = tuple({"field": one.field, "message": one.message, "code": one.code} for one in cause.errors)
        return Answered(error=run_error(error), errors=wrong, invalid=isinstance(cause, Invalid))
    finally:
        await opening.close()


async def _result(job: ProbeJob, opening: Opening, sandboxes: WarmSandbox, report: Reporter) -> dict[str, Any]:
    if job.probe == "transform_test":
        if job.transformation is None:
            raise Invalid("probe-incomplete", "A transformation is needed to try one out.")
        return await try_out(job.transformation, job.sample, sandboxes, job.limit, job.mask_key)
    if job.probe == "dry_run":
        if job.dry_run is None:
            raise Invalid("probe-incomplete", "A pipeline is needed to try it.")
        tools = Tools(job.dry_run, job.mask_key, opening, sandboxes, report)
        return (await dry_run(tools)).model_dump(mode="json")
    if job.connector is None:
        raise Invalid("probe-incomplete", "A connector is needed for this.")
    match job.probe:
        case "connector_test":
            return await _test(job.connector, opening)
        case "discover":
            return await _discover(job.connector, job.pattern, opening)
        case "list_files":
            return await _list_files(job.connector, job.stream or "", opening)
        case "read_back":
            return (await _read_back(job.connector, job.load, opening)).model_dump(mode="json")
    return await _preview(job, job.connector, opening)


async def _test(use: ConnectorUse, opening: Opening) -> dict[str, Any]:
    type_, config = checked(use)
    checks = [
        {
            "name": check.name,
            "ok": check.ok,
            "detail": check.detail,
            "code": check.code,
            "help": None if check.code is None else help_section(check.code),
            "duration_ms": check.duration_ms,
        }
        async for check in type_.check(config, opening.context())
    ]
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


async def _discover(use: ConnectorUse, pattern: str | None, opening: Opening) -> dict[str, Any]:
    found = await opening.source(use).discover(pattern)
    return {
        "streams": [
            {
                "name": stream.name,
                "schema": schema_as_json(stream.schema),
                "primary_key": list(stream.primary_key),
                "cursor_fields": list(stream.cursor_fields),
                "estimated_rows": stream.estimated_rows,
            }
            for stream in found
        ]
    }


async def _list_files(use: ConnectorUse, stream: str, opening: Opening) -> dict[str, Any]:
    source = opening.source(use)
    if not isinstance(source, ListingSource):
        raise Invalid("files-not-listed", f"Connectors of type {use.type} have no files that arrive.")
    found = await source.listing(stream)
    if len(found) > MOST_FILES:
        raise Invalid("files-too-many", f"{len(found)} files fit {stream!r}; at most {MOST_FILES} can be watched.")
    return {"files": [file.model_dump(mode="json") for file in found]}


async def _read_back(use: ConnectorUse, load: HeldLoad | None, opening: Opening) -> ReadBack:
    if load is None:
        raise Invalid("probe-incomplete", "A load is needed to read it back.")
    type_, _ = checked(use)
    request = LoadRequest(
        run_id=load.run_id, pipeline_id=load.pipeline_id, stream=load.stream, write=WriteKind(load.write), epoch=0
    )
    destination = opening.destination(use)
    held = await destination.read_back(request)
    provable = any(one.mode is request.write and one.delivery == "exactly_once" for one in type_.write_modes)
    answer = ReadBack(receipt=await _of_all_chunks(destination, request, held, load.destination), provable=provable)
    if held is None or not isinstance(destination, CountingDestination):
        return answer
    there = await destination.recount(request, RECOUNT_SECONDS)
    return answer if there is None else answer.model_copy(update=dataclasses.asdict(there))


async def _of_all_chunks(
    destination: Destination, request: LoadRequest, held: HeldReceipt | None, name: str
) -> Receipt | None:
    """What the run holds there: of a load in chunks all of them, as the run has added them up."""
    receipt = None
    while held is not None:
        one = told(name, held)
        receipt = one if receipt is None else receipts_added(receipt, one)
        request = dataclasses.replace(request, chunk=request.chunk + 1)
        held = await destination.read_back(request)
    return receipt


async def _preview(job: ProbeJob, use: ConnectorUse, opening: Opening) -> dict[str, Any]:
    source = opening.source(use)
    request = ReadRequest(stream=job.stream, query=job.query, batch_rows=job.limit, limit=job.limit)
    schema = await source.schema(request)
    rows: list[dict[str, Any]] = []
    rejected: list[Mapping[str, Any]] = []
    async with aclosing(source.read(request)) as batches:
        async for batch in batches:
            rows += rows_as_json(batch.rows)
            rejected += [{"position": one.position, "reason": one.reason, "code": one.code} for one in batch.rejected]
            if len(rows) >= job.limit:
                break
    return {"schema": schema_as_json(schema), "rows": rows[: job.limit], "rejected": rejected[: job.limit]}
