"""Common passwords: those that are tried first, in a file beside this one (common.LICENSES says where it is from)."""

from functools import cache
from importlib.resources import files


def is_common(password: str) -> bool:
    """Is it one of the 39,050 on the list? Lower case is asked for."""
    return "\n" not in password and f"\n{password}\n".encode() in _list()


@cache
def _list() -> bytes:
    """The file as it lies: looked through where it is, it takes a tenth of the memory of a set."""
    return b"\n" + files(__package__).joinpath("common.txt").read_bytes()
