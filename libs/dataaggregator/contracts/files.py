"""Contracts: a file behind a connector in one state, as triggers that wait for files are told of it."""

from dataaggregator.contracts.base import Told


class FileState(Told):
    """`version` is another one when the file is: an ETag, or what the file system says of it."""

    name: str
    size: int
    version: str
