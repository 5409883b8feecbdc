"""Connectors, composition root: every object, by hand."""

from pathlib import Path

from dataaggregator.http.client import ServiceClient
from dataaggregator.ports import Ports
from dataaggregator.service import Loop, Service
from services.connectors import events
from services.connectors.api import ConnectorsApi
from services.connectors.applying import ApplyingApi
from services.connectors.commands import SEALED, ConnectorCommands
from services.connectors.discoverer import Discoverer
from services.connectors.outbox import NAME
from services.connectors.pipelines import Pipelines
from services.connectors.probe import Probe
from services.connectors.quota import connectors_quota
from services.connectors.references import References
from services.connectors.trying import TryingApi

MIGRATIONS = Path(__file__).parent / "migrations"


def build(ports: Ports) -> Service:
    database = ports.database
    services = ServiceClient(ports, NAME)
    quota = connectors_quota(ports.settings.workspace_definitions_bytes)
    commands = ConnectorCommands(database, ports.keys, References(ports.settings), Pipelines(services).let_go, quota)
    probe = Probe(services)
    discoverer = Discoverer(database, commands, probe)
    return Service(
        name=NAME,
        routes=(
            *ConnectorsApi(database, commands).routes(),
            *ApplyingApi(database, commands).routes(),
            *TryingApi(database, commands, probe, discoverer).routes(),
        ),
        handlers=events.handlers(),
        loops=(Loop("discoverer", discoverer.run),),
        resources=(services,),
        needs=(database,),
        schema=NAME,
        sealed=(SEALED,),
    )
