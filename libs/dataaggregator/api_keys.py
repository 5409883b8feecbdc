"""API keys as they are written: what one looks like, and how one that was never ours is told without asking anybody."""

import re
import secrets
import string
import zlib

PREFIX = "da_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43  # of 62 digits each: 256 bits
_CHECK = 6  # digits enough for 32 bits
#: What scanners of leaked secrets look for; `dah_` and `dar_` begin otherwise.
PATTERN = rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}"
_WRITTEN = re.compile(PATTERN)


def new_key() -> str:
    drawn = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return f"{PREFIX}{drawn}{_check(drawn)}"


def well_formed(key: str) -> bool:
    """Could it be one of ours? False for what was cut off, mistyped or made up."""
    drawn = key[len(PREFIX) : -_CHECK]
    return _WRITTEN.fullmatch(key) is not None and key.endswith(_check(drawn))


def _check(drawn: str) -> str:
    """CRC-32 in six digits of base 62."""
    left, digits = zlib.crc32(drawn.encode()), ""
    for _ in range(_CHECK):
        left, digit = divmod(left, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
