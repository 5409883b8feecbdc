"""mask: make values unreadable; no row is lost. Law: read = written.

hash: HMAC-SHA-256 under the workspace's key, as 64 hexadecimal digits, of the text a cast to text gives; numbers by
their value (1.50 like 1.5, -0.0 like 0.0). Equal values have equal hashes in the workspace, so that joins still work.
redact: `***` in the place of text; a field of another type cannot hold that and becomes NULL.
partial: `***` and the last four characters of a text of at least eight; of a shorter one `***` alone.
NULL stays NULL. What a later step rejects is set aside as it left here, so that no original comes out behind a mask.
"""

import hmac
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import MaskStep
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting, array
from dataaggregator.dataplane.steps.engine import ROWS, quote
from dataaggregator.dataplane.steps.names import exact, known, one_name_each, position
from dataaggregator.dataplane.steps.types import Column

STARS = "***"
_TAIL, _LONG_ENOUGH = 4, 8


class Mask(RowStage):
    """The engine gives values their text, a batch at a time; the key never stands in a statement."""

    kind = "mask"

    def __init__(self, step: MaskStep, schema: pa.Schema, setting: Setting) -> None:
        known(step.mask, schema, setting.place("mask"))
        self._hashed = [name for name, way in step.mask.items() if way == "hash"]
        self._sql = _texts(self._hashed, schema, setting) if self._hashed else ""
        self._covers: dict[str, Callable[[Column], Column]] = {}
        for name, way in step.mask.items():
            at = position(schema, name)
            kind: pa.DataType = pa.string()
            if way == "redact":
                kind = _redacted(schema.field(at).type)
                self._covers[name] = _stars if kind == pa.string() else _nothing
            elif way == "partial":
                _only_text(schema.field(at), setting)
                self._covers[name] = _partial
            schema = schema.set(at, pa.field(name, kind))
        super().__init__(setting, schema)

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        columns = dict(zip(flow.rows.schema.names, flow.rows.columns, strict=True))
        for name, cover in self._covers.items():
            columns[name] = cover(columns[name])
        if self._hashed:
            texts = self.setting.engine.evaluate(flow.rows, self._sql, {}, self.setting.place("mask"))
            for name, column in zip(self._hashed, texts.columns, strict=True):
                columns[name] = self._hash(array(column))
        rows = pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)
        return Flow(rows, rows)

    def _hash(self, texts: Column) -> Column:
        """Each different text is hashed once."""
        key = self.setting.mask_key
        if key is None:
            raise ValueError("a mask that hashes was not given the workspace's key")
        encoded = pc.dictionary_encode(texts.cast(pa.string()))
        hashes = [hmac.digest(key, text.encode(), "sha256").hex() for text in encoded.dictionary.to_pylist()]
        return pa.array(hashes, pa.string()).take(encoded.indices)


def _texts(names: list[str], schema: pa.Schema, setting: Setting) -> str:
    """The statement that gives the texts to hash; raises Invalid for a field that has none."""
    place = setting.place("mask")
    for name in names:
        field = schema.field(position(schema, name))
        if pa.types.is_nested(field.type):
            message = f"hash takes one value a row, {name} is {field.type}; flatten or explode it first, or redact it"
            raise setting.place(f"mask.{name}").invalid("definition-invalid", message)
    exact(names, schema, place)
    one_name_each(schema, place)
    kinds = setting.engine.types_of(schema)
    return f"SELECT {', '.join(_text(quote(name), kinds[name]) for name in names)} FROM {ROWS}"


def _text(field: str, kind: str) -> str:
    text = f"CAST({field} AS VARCHAR)"
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN {field} = 0 THEN '0.0' ELSE {text} END"
    if kind.startswith("DECIMAL") and not kind.endswith(",0)"):
        return f"rtrim(rtrim({text}, '0'), '.')"
    return text


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _redacted(kind: pa.DataType) -> pa.DataType:
    return pa.string() if _is_text(kind) else kind


def _only_text(field: "pa.Field[Any]", setting: Setting) -> None:
    if not _is_text(field.type):
        message = f"partial shows the end of a text, {field.name} is {field.type}; cast it to text first, or use redact"
        raise setting.place(f"mask.{field.name}").invalid("definition-invalid", message)


def _stars(column: Column) -> Column:
    return pc.if_else(pc.is_valid(column), STARS, pa.scalar(None, pa.string()))


def _nothing(column: Column) -> Column:
    return pa.nulls(len(column), column.type)


def _partial(column: Column) -> Column:
    texts = column.cast(pa.string())
    shown = pc.binary_join_element_wise(STARS, pc.utf8_slice_codeunits(texts, -_TAIL), "")
    return pc.if_else(pc.greater_equal(pc.utf8_length(texts), pa.scalar(_LONG_ENOUGH)), shown, STARS)
