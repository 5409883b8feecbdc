"""The connector SDK: what a connector author imports."""

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import (
    Begun,
    BinaryDestination,
    CommitUnknown,
    Destination,
    ExactDestination,
    LoadRequest,
    Prepared,
    Receipt,
    SchemaPolicy,
    WriteKind,
)
from dataaggregator.connector.egress import Address, Egress, EgressPolicy, HostList
from dataaggregator.connector.source import (
    BinaryCopy,
    BinaryCopyEnd,
    BinarySource,
    ReadMode,
    ReadRequest,
    Source,
    StreamInfo,
)
from dataaggregator.connector.spec import (
    Check,
    Config,
    ConnectorType,
    WriteMode,
    config_schema,
    map_secrets,
    secret_paths,
)
from dataaggregator.dataplane.batch import Batch, Cursor, RejectedRow

__all__ = [
    "Address",
    "Batch",
    "Begun",
    "BinaryCopy",
    "BinaryCopyEnd",
    "BinaryDestination",
    "BinarySource",
    "Check",
    "CommitUnknown",
    "Config",
    "ConnectorType",
    "Context",
    "Cursor",
    "Destination",
    "Egress",
    "EgressPolicy",
    "ExactDestination",
    "HostList",
    "LoadRequest",
    "Prepared",
    "ReadMode",
    "ReadRequest",
    "Receipt",
    "RejectedRow",
    "SchemaDifference",
    "SchemaPolicy",
    "Source",
    "StreamInfo",
    "WriteKind",
    "WriteMode",
    "config_schema",
    "map_secrets",
    "secret_paths",
]
