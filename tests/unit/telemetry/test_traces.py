"""Traces go through by id always, and as spans only where somebody listens."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dataaggregator.settings import Settings
from dataaggregator.telemetry import traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.configure(Settings(trace_sample_ratio=1.0), SimpleSpanProcessor(exporter))
    yield exporter
    traces.shutdown()


def test_a_trace_goes_on_from_its_traceparent() -> None:
    with traces.continue_from(PARENT, "step") as trace:
        assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
        assert traces.traceparent() == trace.traceparent
        assert trace.traceparent.endswith("-01")
        assert trace.traceparent != PARENT
    assert traces.traceparent() is None


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "x",
        "00-0-0-00",
        PARENT.upper(),
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(parent: str | None) -> None:
    with traces.continue_from(parent, "step") as trace:
        assert len(trace.trace_id) == 32
        assert trace.trace_id not in PARENT
        assert trace.traceparent.endswith("-00")


def test_without_an_exporter_no_span_is_made() -> None:
    with traces.continue_from(PARENT, "outer") as outer, traces.span("inner") as inner:
        assert outer.span is None
        assert inner is outer


def test_spans_hang_together_over_a_border(exported: InMemorySpanExporter) -> None:
    with traces.continue_from(PARENT, "caller", {"run": "x"}), traces.span("inner") as inner:
        inner.set("rows", 5)
        border = traces.traceparent()
    with traces.continue_from(border, "callee"):
        pass
    caller, callee = (next(s for s in exported.get_finished_spans() if s.name == name) for name in ("caller", "callee"))
    between = next(span for span in exported.get_finished_spans() if span.name == "inner")
    assert {span.context.trace_id for span in (caller, between, callee)} == {0x0AF7651916CD43DD8448EB211C80319C}
    assert caller.parent is not None
    assert between.parent is not None
    assert callee.parent is not None
    assert caller.parent.span_id == 0xB7AD6B7169203331
    assert between.parent.span_id == caller.context.span_id
    assert callee.parent.span_id == between.context.span_id
    assert between.attributes == {"rows": 5}


def test_what_is_not_sampled_makes_no_span(exported: InMemorySpanExporter) -> None:
    with traces.continue_from(PARENT[:-2] + "00", "caller") as trace, traces.span("inner"):
        assert trace.span is None
    assert exported.get_finished_spans() == ()


def test_an_error_marks_its_span_and_goes_on(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ZeroDivisionError), traces.continue_from(None, "step"):
        raise ZeroDivisionError
    (span,) = exported.get_finished_spans()
    assert span.status.description == "ZeroDivisionError"
    assert traces.current() is None
