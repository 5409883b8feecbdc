"""Contracts: how a secret looks in an answer; sent back as such it means *unchanged*."""

MASK = "********"
