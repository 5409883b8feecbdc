"""The database: what is to happen in this process once a transaction has committed, such as waking the relay."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dataaggregator.db.connection import Connection

Callback = Callable[[], None]

# Keyed by identity: an entry lives exactly as long as the transaction whose connection it names.
_waiting: dict[int, dict[Callback, None]] = {}


def is_watched(tx: Connection) -> bool:
    """Whether `after_commit` callbacks of this transaction will be called."""
    return id(tx) in _waiting


def after_commit(tx: Connection, callback: Callback) -> None:
    """Call `callback` once after `tx` has committed; never if it rolls back or was not opened by `Database`."""
    if (callbacks := _waiting.get(id(tx))) is not None:
        callbacks[callback] = None


@contextmanager
def watched(tx: Connection) -> Iterator[dict[Callback, None]]:
    """Collect the callbacks of one transaction; the caller runs them when it has committed."""
    callbacks = _waiting[id(tx)] = {}
    try:
        yield callbacks
    finally:
        del _waiting[id(tx)]
