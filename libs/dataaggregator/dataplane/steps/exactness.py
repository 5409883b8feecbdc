"""When a cast keeps the value: a condition in SQL for each pair of types."""

import re

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOATS = ("FLOAT", "DOUBLE")
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_FRACTION_OF_NANOSECONDS = r"\.[0-9]{6}0*[1-9]"
_TIME = r"[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]*)?)?"
_OFFSET = r":[0-9.]+\s*([+-][0-9:]+|[A-Za-z].*)\s*$"


def exact(field: str, value: str, source: str, target: str) -> str:
    """SQL that is true when `value` (the field cast to `target`, null when it cannot be) is the field's value."""
    there = f"{value} IS NOT NULL"
    if target in ("VARCHAR", source):
        return there
    if source == "VARCHAR":
        return f"{there} AND {_from_text(field, value, target)}"
    if target in _FLOATS and source not in _INTEGERS:
        return f"{there} AND (isfinite({value}) OR NOT isfinite(CAST({field} AS DOUBLE)))"
    return f"{there} AND TRY_CAST({value} AS {source}) IS NOT DISTINCT FROM {field}"


def _from_text(field: str, value: str, target: str) -> str:
    trimmed = f"trim({field})"
    if target in _INTEGERS:
        return f"regexp_full_match({trimmed}, '[+-]?[0-9]+(\\.0*)?')"
    if match := _DECIMAL.fullmatch(target):
        scale = int(match.group(2))
        bare = f"|\\.[0-9]{{1,{scale}}}0*" if scale else ""
        return f"regexp_full_match({trimmed}, '[+-]?([0-9]+(\\.[0-9]{{0,{scale}}}0*)?{bare})')"
    if target in _FLOATS:
        return f"(isfinite({value}) OR regexp_full_match(lower({trimmed}), '[+-]?(inf|infinity|nan)'))"
    fine = f"NOT regexp_matches({field}, '{_FRACTION_OF_NANOSECONDS}')"
    match target:
        case "DATE":  # with a time behind it only where that is the midnight in UTC at which the day begins
            stamp, zoned = f"TRY_CAST({field} AS TIMESTAMP WITH TIME ZONE)", "TIMESTAMP WITH TIME ZONE"
            return f"coalesce({stamp} = CAST(CAST({value} AS TIMESTAMP) AS {zoned}), NOT contains({field}, ':'))"
        case "TIME":  # the engine stops reading behind it, whatever is there: a zone, or PM
            return f"regexp_full_match({trimmed}, '{_TIME}') AND {fine}"
        case "BLOB":  # the engine reads \x41 as one byte, also in the midst of a text
            return f"(encode({field}) = {value} OR lower(CAST({value} AS VARCHAR)) = lower({field}))"
        case "TIMESTAMP":
            return f"NOT regexp_matches({field}, '{_OFFSET}') AND {fine}"
        case "TIMESTAMP WITH TIME ZONE":
            return fine
    return "true"
