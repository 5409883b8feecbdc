"""Files of many formats below a root, read with every row accounted for and written whole or not at all."""

from dataaggregator.connector.destination import WriteKind
from dataaggregator.connector.source import ReadMode
from dataaggregator.connector.spec import ConnectorType, Naming, WriteMode
from dataaggregator_connectors.files.checking import check
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.names import folder_within, stream_parts
from dataaggregator_connectors.files.source import FilesSource

CONNECTOR = ConnectorType(
    name="files",
    title="Files",
    config=FilesConfig,
    source=FilesSource,
    destination=FilesDestination,
    check=check,
    read_modes=(ReadMode.FULL_REFRESH,),
    write_modes=(WriteMode(WriteKind.APPEND, "exactly_once"), WriteMode(WriteKind.REPLACE, "exactly_once")),
    naming=Naming(stream_parts, folder_within),
    docs="Reads a file, a folder or a glob; writes csv, ndjson, parquet or arrow, seen with its manifest.",
)
