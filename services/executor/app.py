"""app: the executor's composition root: every object, by hand, on one screen."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from dataaggregator.bus import Handler
from dataaggregator.dataplane.job import JobSettings, SandboxSettings
from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.http.client import ServiceClient
from dataaggregator.ids import new_id
from dataaggregator.machine import memory_bytes
from dataaggregator.ports import Ports
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Loop, Service
from dataaggregator.settings import Settings
from services.executor import events
from services.executor.api import Api
from services.executor.attempt import AttemptLimits
from services.executor.capacity_api import CapacityApi
from services.executor.cleaner import Cleaner, SpillFolder
from services.executor.commands import SCHEMA, Attempts
from services.executor.dry_run_api import DryRunApi
from services.executor.folders import KeptFolders, RunFolders
from services.executor.kernel_api import KernelApi
from services.executor.lease import LeaseKeeper, LeaseTimes
from services.executor.limiting import WorkspaceLimits
from services.executor.presence import Announcer
from services.executor.probe import Probes
from services.executor.reaper import Reaper, ReaperTimes
from services.executor.recorder import Recorder
from services.executor.rejected_api import RejectedApi
from services.executor.rejected_files import RejectedFiles
from services.executor.replays import Replays
from services.executor.room import Memory, Room
from services.executor.run_store import run_store_of
from services.executor.state_api import StateApi
from services.executor.storing import Storing
from services.executor.verify_api import VerifyApi
from services.executor.wake import Waker
from services.executor.whereabouts import identify
from services.executor.worker import Worker, WorkerDoors
from services.executor.workplace import Workplace, WorkplaceDoors

MEMORY_SHARE = 0.8
"""Of the memory there is; the rest is the service's own, and its neighbours'."""


def build(ports: Ports) -> Service:
    settings, database = ports.settings, ports.database
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id().hex[-6:]}"
    job = _job_settings(settings)
    spill = SpillFolder(settings.home / "spill")
    pool, room = ProcessPool(_pool_settings(settings, spill.path)), Room(settings.run_slots, _memory(settings))
    folders, kept = RunFolders(settings.home), KeptFolders(settings.home)
    attempts = Attempts(database, name, settings.lease_seconds, settings.executor_labels)
    times = LeaseTimes(settings.lease_seconds, settings.heartbeat_seconds, settings.fence_seconds)
    keeper = LeaseKeeper(database, times)
    limits = WorkspaceLimits(database, settings.workspace_run_limit)
    announcer = Announcer(database, limits, (name, settings.executor_labels), room, times)
    client = ServiceClient(ports, "executor")
    mask_key = _mask_keys(ports.keys)
    store = run_store_of(settings)
    storing = None if store is None else Storing(database, folders, store)
    rejected_files = RejectedFiles(folders, store)
    replays = Replays(database, rejected_files, settings.run_retention_days)
    doors = WorkplaceDoors(
        database, ports.bus, ports.clock, client, pool, attempts, folders, kept, replays, storing, mask_key
    )
    workplace = Workplace(doors, job, AttemptLimits(settings.execution_timeout), room)
    waker = Waker(database)
    worker = Worker(
        WorkerDoors(attempts, Recorder(attempts), keeper, workplace, storing, _owner(name)),
        room,
        waker.signal,
    )
    reaper = Reaper(database, ReaperTimes(settings.heartbeat_seconds, settings.queue_limit_seconds))
    cleaner = Cleaner(database, folders, kept, settings.run_retention_days, store)
    handlers: list[Handler] = events.handlers(limits)
    probes = Probes(pool, settings.home / "probes", job, mask_key)
    return Service(
        name="executor",
        schema=SCHEMA,
        routes=[
            *Api(
                database, RejectedApi(database, rejected_files, settings.run_retention_days), replays, probes
            ).routes(),
            *StateApi(database).routes(),
            *VerifyApi(database, client, probes).routes(),
            *DryRunApi(database, client, probes, kept).routes(),
            *KernelApi(settings.sandbox).routes(),
            *CapacityApi(database, limits).routes(),
        ],
        handlers=handlers,
        loops=[
            Loop("executor-leases", keeper.run),
            Loop("executor-presence", announcer.run),
            Loop("executor-wake", waker.run),
            Loop("executor-worker", worker.run),
            Loop("executor-reaper", reaper.run),
            Loop("executor-cleaner", cleaner.run),
            *([] if storing is None else [Loop("executor-storing", storing.run)]),
        ],
        resources=[client, spill, pool],
        needs=[database],
        wants=[] if storing is None else [storing],
    )


def _owner(name: str) -> dict[str, object]:
    """Who holds a lease: a name for people, an identity for a successor that must know whether we live."""
    identity = identify(os.getpid())
    return {"executor": name, **({} if identity is None else identity.as_json())}


def _mask_keys(keys: KeyRing) -> Callable[[UUID], str]:
    """A key for each workspace, which tells nothing of SECRET_KEY or of another's."""
    return lambda workspace: keys.derive(f"mask:{workspace}").hex()


def _job_settings(settings: Settings) -> JobSettings:
    return JobSettings(
        egress_allow=settings.egress_allow,
        egress_deny=settings.egress_deny,
        allowed_roots=tuple(str(root) for root in settings.files_allowed_roots),
    )


def _memory(settings: Settings) -> Memory:
    run, sandbox = settings.run_memory_bytes, settings.sandbox_memory_bytes
    # Where nobody said how much there is, what one run may declare is never refused.
    there = settings.executor_memory_bytes or max(int(memory_bytes() * MEMORY_SHARE), run + 2 * sandbox)
    return Memory(there, run, sandbox)


def _pool_settings(settings: Settings, folder: Path) -> PoolSettings:
    sandbox = SandboxSettings(
        level=settings.sandbox,
        memory_bytes=settings.sandbox_memory_bytes,
        # Before the stall limit, so that what is told names the step.
        python_seconds=max(1, int(settings.execution_timeout * 0.9)),
    )
    return PoolSettings(memory_bytes=settings.run_memory_bytes, sandbox=sandbox, folder=folder)
