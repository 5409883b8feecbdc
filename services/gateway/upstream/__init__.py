"""The connections to the services behind the gateway: HTTP/1.1, one call at a time on each, kept for the next."""

from .connection import Answer, Call, Lost
from .pool import Exchange, Pool, Unreached

__all__ = ["Answer", "Call", "Exchange", "Lost", "Pool", "Unreached"]
