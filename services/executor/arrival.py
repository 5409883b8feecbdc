"""arrival: a run that somebody asks about before its event has come.

Who starts a run may open its log in the same moment, while `run.queued` is still on the bus. An id tells when it was
made (UUIDv7, RFC 9562), so that only what may still arrive is waited for.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dataaggregator.db import Database
from dataaggregator.errors import NotFound
from dataaggregator.ids import made_at
from services.executor.store import runs
from services.executor.store.runs import Run

ON_ITS_WAY = timedelta(seconds=5)
LOOK_SECONDS = 0.05


async def arrived(database: Database, workspace: UUID, run_id: UUID) -> Run:
    """The run, waited for while its event may be on its way. NotFound: no executor has heard of it."""
    while True:
        try:
            async with database.transaction(workspace) as tx:
                return await runs.get(tx, workspace, run_id)
        except NotFound:
            made = made_at(run_id)
            if made is None or abs(datetime.now(UTC) - made) > ON_ITS_WAY:
                raise
        await asyncio.sleep(LOOK_SECONDS)
