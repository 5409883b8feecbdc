"""Versions as entity tags: ``"7"`` is version 7."""

from dataaggregator.errors import Stale


def format_etag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def check(if_match: str | None, version: int) -> None:
    """Raises Stale unless ``If-Match`` is absent, ``*``, or names this version (RFC 9110, 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if format_etag(version) not in tags:
        raise Stale("version-stale", f"The version is now {format_etag(version)}, you changed {if_match}.")
