"""Whatever a field is called, it is that to every step that puts names into SQL, or the definition is refused."""

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from dataaggregator.errors import Invalid
from tests.names import NAMES
from tests.security import tried

pytestmark = pytest.mark.security


def test_a_hostile_name_is_a_field_like_any_other_or_is_refused(transform: Any) -> None:
    names, refused = tried(NAMES), []
    for name in names:
        flow = pa.table({"id": [1, 1, 2], "x": ["a", "a", "b"]})
        steps = [
            {"rename": {"x": name}},
            {"cast": {name: "string"}},
            {"dedupe": {"key": [name], "order_by": ["id"]}},
            {"mask": {name: "redact"}},
            {"aggregate": {"by": [name], "measures": {"n": "count(*)"}}},
        ]
        try:
            made = transform(steps, flow)
        except (Invalid, ValidationError):  # at which the definition is 422
            refused.append(name)
            continue
        assert made.values == [{name: "***", "n": 2}], name
    assert len(names) >= 80
    assert set(refused) == {"", "\0", "a\0b", "\ud800"} & set(names)
