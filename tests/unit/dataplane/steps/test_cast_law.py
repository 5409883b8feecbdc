"""cast, each on_error, against a few lines of Python: kept exactly, set aside, made NULL, or the end of it."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.errors import Invalid

DIGITS = st.from_regex(r"[+-]?[0-9]{0,4}(\.[0-9]{0,3})?", fullmatch=True)
TEXTS = st.one_of(
    st.none(), DIGITS, st.sampled_from(["", " 7 ", "-0.0", "1e2", "0x1", "--1", "nan", "128", "-128", "99.95"])
)
BOUNDS = {"tinyint": ("-128", "127"), "utinyint": ("0", "255"), "decimal(3,1)": ("-99.9", "99.9")}


def _exact(text: str, word: str) -> Any:
    """The value of the text in the new type, or None when that would be another one."""
    trimmed = text.strip(" ")
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)", trimmed):
        return None
    try:
        value = Decimal(trimmed)
    except InvalidOperation:
        return None
    low, high = map(Decimal, BOUNDS[word])
    if not low <= value <= high or (value * (10 if word[0] == "d" else 1)) % 1:
        return None
    return value if word[0] == "d" else None if trimmed.lstrip("+-").startswith(".") else int(value)


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=15),
    word=st.sampled_from(sorted(BOUNDS)),
    on_error=st.sampled_from(["reject", "null", "fail"]),
    batch_rows=st.integers(1, 15),
)
def test_each_value_is_kept_exactly_or_goes_the_way_it_was_told(
    transform: Any, texts: Any, word: str, on_error: str, batch_rows: int
) -> None:
    table = pa.table({"id": pa.array(range(len(texts)), pa.int64()), "v": pa.array(texts, pa.string())})
    step = {"cast": {"v": {"type": word, "on_error": on_error}}}
    made = [None if text is None else _exact(text, word) for text in texts]
    bad = [n for n, text in enumerate(texts) if text is not None and made[n] is None]
    if bad and on_error == "fail":
        with pytest.raises(Invalid) as caught:
            transform([step], table, batch_rows=batch_rows)
        assert (caught.value.code, caught.value.errors[0].field) == ("cast-failed", "steps[0].cast.v")
        return
    out = transform([step], table, batch_rows=batch_rows)
    gone = bad if on_error == "reject" else []
    assert out.values == [{"id": n, "v": value} for n, value in enumerate(made) if n not in gone]
    refused = [row for message in out.refused for row in message.rows.to_pylist()]
    assert refused == [{"id": n, "v": texts[n]} for n in gone]
    (counts,) = out.counts
    assert (counts.read, counts.written, sum(counts.rejected.values())) == (
        len(texts),
        len(texts) - len(gone),
        len(gone),
    )
