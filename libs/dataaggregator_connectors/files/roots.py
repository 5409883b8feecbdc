"""Which kind of root a configuration names, and who keeps the manifests in it."""

import asyncio

from dataaggregator.connector.context import Context
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.buckets import open_bucket
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.ledger import Ledger
from dataaggregator_connectors.files.local import LocalTree
from dataaggregator_connectors.files.local_ledger import LocalLedger
from dataaggregator_connectors.files.names import StreamPlace
from dataaggregator_connectors.files.object_ledger import ObjectLedger
from dataaggregator_connectors.files.objects import ObjectTree
from dataaggregator_connectors.files.tree import Tree
from dataaggregator_connectors.files.web import WebTree


async def open_tree(config: FilesConfig, context: Context) -> Tree:
    match config.scheme:
        case "file":
            return await asyncio.to_thread(LocalTree, config, context)
        case "https" | "http":
            return WebTree(config, context)
        case _:
            return await open_bucket(config, context)


def ledger_of(tree: Tree, place: StreamPlace, context: Context) -> Ledger:
    if isinstance(tree, LocalTree):
        return LocalLedger(tree, place)
    if isinstance(tree, ObjectTree):
        return ObjectLedger(tree, place, context.folder)
    raise Invalid("write-mode-unknown", f"{tree.shown} can only be read.")
