"""Trying a files connector out: whether its root may be used, can be listed, and written."""

import asyncio
import os
from collections.abc import AsyncIterator

from dataaggregator.connector.context import Context
from dataaggregator.connector.spec import Check
from dataaggregator.errors import Invalid, PlatformError
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.finding import streams
from dataaggregator_connectors.files.local import LocalTree
from dataaggregator_connectors.files.names import place_of
from dataaggregator_connectors.files.object_ledger import ObjectLedger
from dataaggregator_connectors.files.objects import ObjectTree
from dataaggregator_connectors.files.roots import open_tree
from dataaggregator_connectors.files.tree import Tree


async def check(config: FilesConfig, context: Context) -> AsyncIterator[Check]:
    try:
        tree = await open_tree(config, context)
    except PlatformError as error:
        yield Check("allowed", False, error.detail, error.code)
        return
    yield Check("allowed", True, f"{tree.shown} may be used.")
    try:
        if isinstance(tree, LocalTree) and not await asyncio.to_thread(tree.root.is_dir):
            yield Check("list", False, f"{tree.root} is not a folder.", "files-failed")
            return
        yield await tree.work(lambda: _listed(tree, config))
        yield await tree.work(lambda: _written(tree, context))
    except PlatformError as error:
        yield Check("list", False, error.detail, error.code)
    finally:
        await tree.close()


def _listed(tree: Tree, config: FilesConfig) -> Check:
    if config.scheme in ("https", "http"):
        return Check("list", True, "A web server is not listed; its files are read by their names.")
    return Check("list", True, f"{len(streams(tree, hive=config.hive))} streams can be read.")


def _written(tree: Tree, context: Context) -> Check:
    """What can only be read is no fault: whether it is to be written shows in a pipeline."""
    can = isinstance(tree, LocalTree) and os.access(tree.root, os.W_OK)
    if isinstance(tree, ObjectTree):
        try:
            ObjectLedger(tree, place_of("."), context.folder).prepare()
            can = True
        except Invalid as error:
            return Check("write permission", error.code == "store-denied", error.detail, error.code)
    return Check("write permission", True, "Files can be written." if can else "The root can only be read.")
