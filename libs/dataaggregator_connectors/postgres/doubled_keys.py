"""Whether an object of a column of documents has a key twice. Most documents of a column are alike: what they are like
is found for all of them at once, and only that is looked at."""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.connector.documents import DoubledKeyError, loads

STRING = r'"(?:[^"\\]|\\.)*"'
SPACE = r"[ \t\r\n]*"
VALUES = f"(?s)({STRING}{SPACE}:)|{STRING}|[0-9]+"
"""In the grammar of RE2; of what it finds the first group stays."""
MARKS = re.compile(f"[{{}}]|{STRING}({SPACE}:)?", re.DOTALL)
ONE_DIGIT = bytes(ord("0") if chr(byte) in "0123456789" else byte for byte in range(256))
ALIKE = 8
"""Where there are not so many documents to a shape, it is not worth a look at each shape."""


def key_twice(texts: Any) -> bool:
    """Of an array of texts; what is no JSON has none, and is for the server to refuse."""
    compute: Any = pc
    texts = texts.filter(compute.greater(compute.count_substring(texts, ":"), 1))
    shapes = compute.unique(_with_one_digit(texts))
    if len(shapes) * ALIKE <= len(texts) and not _any_may(shapes):
        return False
    return _any_may(compute.unique(compute.replace_substring_regex(texts, VALUES, r"\1"))) and _any_has(texts)


def _with_one_digit(texts: Any) -> Any:
    """All digits as 0, over all texts at once."""
    _, offsets, data = texts.buffers()
    if data is None:
        return texts
    zeros = pa.py_buffer(data.to_pybytes().translate(ONE_DIGIT))
    return pa.StringArray.from_buffers(len(texts), offsets, zeros, offset=texts.offset)


def _any_may(shapes: Any) -> bool:
    return any(map(_may_have_one, shapes.to_pylist()))


def _any_has(texts: Any) -> bool:
    return any(map(_has_one, texts.cast(pa.binary()).to_pylist()))


def _may_have_one(shape: str) -> bool:
    """Without values. Where a key is written with an escape there are other ways to write it."""
    if "\\" in shape:
        return True
    objects: list[set[str]] = []
    for mark in MARKS.finditer(shape):
        text = mark[0]
        if text == "{":
            objects.append(set())
        elif not objects:
            return True
        elif text == "}":
            objects.pop()
        elif mark[1] is not None:
            key = text[: text.rindex('"')]
            if key in objects[-1]:
                return True
            objects[-1].add(key)
    return False


def _has_one(text: bytes) -> bool:
    try:
        loads(text)
    except DoubledKeyError:
        return True
    except ValueError:
        pass
    return False
