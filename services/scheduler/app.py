"""Scheduler, composition root: every object, by hand."""

from pathlib import Path

from dataaggregator.http.client import ServiceClient
from dataaggregator.ports import Ports
from dataaggregator.service import Loop, Service
from services.scheduler.applying.api import ApplyApi
from services.scheduler.applying.commands import ApplyCommands
from services.scheduler.applying.owner import ConnectorsOwner
from services.scheduler.arrivals.watcher import Listings, Watcher
from services.scheduler.backfills.api import BackfillsApi
from services.scheduler.backfills.commands import BackfillCommands
from services.scheduler.freshness import Freshness
from services.scheduler.hooks.api import HooksApi
from services.scheduler.hooks.commands import SEALED, HookCommands
from services.scheduler.outbox import NAME
from services.scheduler.pipelines import events as pipeline_events
from services.scheduler.pipelines.api import PipelinesApi
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.leaving import LeavingApi, Owner
from services.scheduler.pipelines.planning import PlanApi
from services.scheduler.pipelines.state import StateApi
from services.scheduler.quota import definitions_quota
from services.scheduler.runs import events as run_events
from services.scheduler.runs.api import RunsApi
from services.scheduler.runs.commands import RunCommands
from services.scheduler.runs.replay import ReplayCommands
from services.scheduler.runs.waiting import Waiting
from services.scheduler.ticker import Ticker
from services.scheduler.transformations.api import TransformationsApi
from services.scheduler.transformations.commands import TransformationCommands

MIGRATIONS = Path(__file__).parent / "migrations"


def build(ports: Ports) -> Service:
    database = ports.database
    services = ServiceClient(ports, NAME)
    quota = definitions_quota(ports.settings.workspace_definitions_bytes)
    transformations = TransformationsApi(database, TransformationCommands(database, quota), services)
    commands = PipelineCommands(database, Owner(services).keep, quota)
    pipelines, leaving = PipelinesApi(database, commands), LeavingApi(commands)
    state, plans = StateApi(database, services), PlanApi(database, services)
    owner = ConnectorsOwner(services)
    applying = ApplyApi(database, ApplyCommands(database, owner, commands), owner)
    runs = RunsApi(database, RunCommands(database), ReplayCommands(database, services), Waiting(services))
    hooks = HooksApi(database, HookCommands(database, ports.keys, ports.limits))
    backfills = BackfillsApi(database, BackfillCommands(database))
    return Service(
        name=NAME,
        routes=(
            *transformations.routes(),
            *pipelines.routes(),
            *plans.routes(),
            *state.routes(),
            *leaving.routes(),
            *applying.routes(),
            *runs.routes(),
            *hooks.routes(),
            *backfills.routes(),
        ),
        handlers=(*pipeline_events.handlers(), *run_events.handlers()),
        loops=(
            Loop("ticker", Ticker(database, ports.settings).run),
            Loop("watcher", Watcher(database, Listings(services).listed, ports.settings.tick_seconds).run),
            Loop("freshness", Freshness(database, ports.settings).run),
        ),
        resources=(services,),
        needs=(database,),
        schema=NAME,
        sealed=(SEALED,),
    )
