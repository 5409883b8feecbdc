"""Files of many formats below a root, read with every row accounted for and written whole or not at all."""

import asyncio
import os
from collections.abc import AsyncIterator

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import WriteKind
from dataaggregator.connector.source import ReadMode
from dataaggregator.connector.spec import Check, ConnectorType, WriteMode
from dataaggregator.errors import PlatformError
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.destination import FilesDestination
from dataaggregator_connectors.files.finding import streams
from dataaggregator_connectors.files.local import LocalTree
from dataaggregator_connectors.files.source import FilesSource


async def check(config: FilesConfig, context: Context) -> AsyncIterator[Check]:
    """Whether the folder is allowed, there, readable and writable."""
    try:
        tree = await asyncio.to_thread(LocalTree, config, context)
    except PlatformError as error:
        yield Check("allowed", False, error.detail, error.code)
        return
    yield Check("allowed", True, f"{tree.root} lies below an allowed folder.")
    if not await asyncio.to_thread(tree.root.is_dir):
        yield Check("list", False, f"{tree.root} is not a folder.", "files-failed")
        return
    found = await asyncio.to_thread(streams, tree, hive=config.hive)
    yield Check("list", True, f"{len(found)} streams can be read.")
    writable = await asyncio.to_thread(os.access, tree.root, os.W_OK)
    yield Check("write permission", True, "Files can be written." if writable else "The folder can only be read.")


CONNECTOR = ConnectorType(
    name="files",
    title="Files",
    config=FilesConfig,
    source=FilesSource,
    destination=FilesDestination,
    check=check,
    read_modes=(ReadMode.FULL_REFRESH,),
    write_modes=(WriteMode(WriteKind.APPEND, "exactly_once"), WriteMode(WriteKind.REPLACE, "exactly_once")),
    docs="Reads a file, a folder or a glob; writes csv, ndjson, parquet or arrow, seen with its manifest.",
)
