"""log_file: the log of a run as a file, read and sent a batch of lines at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson
from aiohttp import web

from dataaggregator.contracts.envelope import rfc3339
from dataaggregator.db import Database
from services.executor.follow import shown
from services.executor.store import logs
from services.executor.store.logs import StoredLine

BATCH_LINES = 500


@dataclass(frozen=True)
class LogFormat:
    media_type: str
    written: Callable[[StoredLine], bytes]


def _ndjson(line: StoredLine) -> bytes:
    return orjson.dumps(shown(line), option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def _text(line: StoredLine) -> bytes:
    """One line each, whatever is in it; fields as JSON."""
    fields = orjson.dumps(line.fields).decode() if line.fields else ""
    told = f"{rfc3339(line.at)} {line.attempt} {line.level:<7} {' '.join(line.message.split())} {fields}"
    return f"{told.rstrip()}\n".encode()


FORMATS: Mapping[str, LogFormat] = {
    "ndjson": LogFormat("application/x-ndjson", _ndjson),
    "text": LogFormat("text/plain; charset=utf-8", _text),
}


@dataclass(frozen=True)
class SendingLog:
    database: Database
    workspace: UUID
    run_id: UUID
    level: str
    format: LogFormat

    async def __call__(self, response: web.StreamResponse) -> None:
        after = 0
        while True:
            async with self.database.transaction(self.workspace) as tx:
                found, _ = await logs.list_lines(
                    tx, self.workspace, self.run_id, level=self.level, after=after, limit=BATCH_LINES
                )
            if not found:
                return
            await response.write(b"".join(map(self.format.written, found)))
            after = found[-1].line
