"""What PostgreSQL would refuse, or it or the encoder on the way to it would take and change without a word."""

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator_connectors.postgres.doubled_keys import key_twice
from dataaggregator_connectors.postgres.fit import TEXTS, Fit
from dataaggregator_connectors.postgres.sql import LONGEST_BYTES

Array: TypeAlias = "pa.Array[Any]"
SECONDS = ("time", "timestamp", "timestamptz")
MICROSECOND_DIGITS = 6
# From 4714 BC on, by days and microseconds since 1970. The lowest value of all, in binary form, is -infinity.
MOMENTS = (-210_866_803_200_000_000, 2**63 - 1)
RANGES = {
    "date": (-2_440_588, 2_145_042_905),
    "time": (0, 86_399_999_999),
    "timestamp": MOMENTS,
    "timestamptz": MOMENTS,
    "oid": (0, 2**32 - 1),
}
# An escape, and not the text of one behind an escaped backslash.
ZERO_IN_JSON = r"(^|[^\\])(\\\\)*\\u0000"


def changed(array: Array, fit: Fit) -> str | None:
    """What would become of a value of these that the column cannot keep as it is; None if it keeps them all."""
    values: Any = array.flatten() if isinstance(array, pa.ListArray) else array
    kind = fit.typname.removeprefix("_")
    if kind in RANGES:
        numbers = values.cast(pa.int32()) if pa.types.is_date32(values.type) else values.cast(pa.int64())
        return _beyond(numbers, *RANGES[kind]) or (_rounded(numbers, fit.typmod) if kind in SECONDS else None)
    if (kind in TEXTS or kind == "json") and _somewhere(values, b"\0"):
        return "a text has the character 0, which PostgreSQL does not hold"
    if kind == "jsonb" and _somewhere(values, b"\\") and pc.any(pc.match_substring_regex(values, ZERO_IN_JSON)).as_py():
        return "a text in it has the character 0 (\\u0000), which a jsonb does not hold"
    if kind == "jsonb" and key_twice(values):
        return "an object in it has a key twice, of which a jsonb keeps the last value"
    if kind in ("varchar", "bpchar") and fit.typmod >= 0:
        return _longer(pc.utf8_length(values), fit.typmod - 4, "characters")
    if kind == "name":
        return _longer(pc.binary_length(values), LONGEST_BYTES, "bytes")
    return None


def _somewhere(texts: Any, wanted: bytes) -> bool:
    """Whether any of these holds these bytes: as a look at them all at once, which costs a tenth of one at each."""
    _, offsets, data = texts.buffers()
    if data is None:
        return False
    places = memoryview(offsets).cast("i")
    start, end = places[texts.offset], places[texts.offset + len(texts)]
    return wanted in data.slice(start, end - start).to_pybytes()


def _beyond(numbers: Any, least: int, most: int) -> str | None:
    found: Any = pc.min_max(numbers).as_py()
    if found["min"] is None or (found["min"] >= least and found["max"] <= most):
        return None
    return "a value lies beyond what PostgreSQL holds"


def _rounded(micros: Any, typmod: int) -> str | None:
    if not 0 <= typmod < MICROSECOND_DIGITS:
        return None
    step = 10 ** (MICROSECOND_DIGITS - typmod)
    whole: Any = pc.multiply(pc.divide(micros, step), step)
    # Of no values at all, `any` knows nothing: not even that none is wrong.
    unlike = pc.any(pc.not_equal(micros, whole)).as_py()
    return "a value has more digits of a second than the column keeps" if unlike else None


def _longer(lengths: Any, most: int, of: str) -> str | None:
    longest = pc.max(lengths).as_py()
    return f"a value has {longest} {of}" if longest is not None and longest > most else None
