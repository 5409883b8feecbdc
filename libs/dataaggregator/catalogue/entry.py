"""The catalogue: what is written down for one error code."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """``title``: a few words that never change with the occasion. ``cure``: what a person does about it."""

    title: str
    cure: str
