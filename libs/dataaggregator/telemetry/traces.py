"""Traces: W3C trace context through HTTP and bus; spans only where a trace is sampled, decided before making one."""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, StatusCode, TraceFlags, set_span_in_context

from dataaggregator.settings import Settings

Attribute = str | int | float | bool

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$")


@dataclass(slots=True)
class Trace:
    """Where we are in a trace. ``span`` is there only if the trace is sampled and exported."""

    trace_id: str
    span_id: str
    sampled: bool
    span: Span | None = None

    @property
    def traceparent(self) -> str:
        """As W3C trace context writes it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def set(self, name: str, value: Attribute) -> None:
        """Put an attribute (a count, a verdict; never a secret) on the span."""
        if self.span is not None:
            self.span.set_attribute(name, value)


class _Tracing:
    """What ``configure`` set; without it no spans are made, ids go through all the same."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.provider: TracerProvider | None = None
        self.ratio = 0.0
        self.random = random.Random()  # noqa: S311 - trace ids are names, not secrets


_tracing = _Tracing()
_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def configure(settings: Settings, processor: SpanProcessor | None = None) -> None:
    """Export spans to OTEL_EXPORTER_OTLP_ENDPOINT if it is set (or to ``processor``)."""
    shutdown()
    endpoint = settings.otel_exporter_otlp_endpoint
    if processor is None and endpoint:
        # Five megabytes a process: only who exports pays for it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))
    if processor is None:
        return
    provider = TracerProvider(resource=Resource.create({"service.name": "dataaggregator"}), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("dataaggregator")
    if not isinstance(tracer, Tracer):
        return
    _tracing.tracer, _tracing.provider, _tracing.ratio = tracer, provider, settings.trace_sample_ratio


def shutdown() -> None:
    """Send what is still held and stop exporting."""
    provider, _tracing.provider, _tracing.tracer = _tracing.provider, None, None
    if provider is not None:
        provider.shutdown()


def current() -> Trace | None:
    """Where we are, or None outside of any trace."""
    return _current.get()


def trace_id() -> str | None:
    """The id of the current trace, 32 hex digits."""
    trace = _current.get()
    return None if trace is None else trace.trace_id


def traceparent() -> str | None:
    """The current trace for the next one to continue from."""
    trace = _current.get()
    return None if trace is None else trace.traceparent


def continue_from(
    parent: str | None, name: str, attributes: Mapping[str, Attribute] | None = None
) -> AbstractContextManager[Trace]:
    """Inside, the current trace is the one of ``parent`` (a traceparent), or a new one if that is None or wrong."""
    match = _TRACEPARENT.match(parent) if parent else None
    if match is not None:
        above = Trace(match[1], match[2], sampled=bool(int(match[3], 16) & 1))
    else:
        sampled = _tracing.tracer is not None and _tracing.random.random() < _tracing.ratio
        above = Trace(f"{_bits(128):032x}", "", sampled=sampled)
    return _Within(_begin(above, name, attributes))


@contextmanager
def span(name: str, attributes: Mapping[str, Attribute] | None = None) -> Iterator[Trace]:
    """A step of the current trace (of a new one outside of any)."""
    above = _current.get()
    if above is None:
        with continue_from(None, name, attributes) as trace:
            yield trace
    elif above.span is None:
        yield above
    else:
        with _Within(_begin(above, name, attributes)) as trace:
            yield trace


class _Within(AbstractContextManager[Trace]):
    """Inside, this is the current trace; every call has one, so it is no generator."""

    __slots__ = ("_token", "_trace")

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __enter__(self) -> Trace:
        self._token = _current.set(self._trace)
        return self._trace

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        _current.reset(self._token)
        span = self._trace.span
        if span is not None:
            if isinstance(error, Exception):
                span.set_status(StatusCode.ERROR, type(error).__name__)
            span.end()


def _begin(above: Trace, name: str, attributes: Mapping[str, Attribute] | None) -> Trace:
    if not above.sampled or _tracing.tracer is None:
        return Trace(above.trace_id, f"{_bits(64):016x}", above.sampled)
    parent = None
    if above.span_id:
        known = SpanContext(int(above.trace_id, 16), int(above.span_id, 16), True, TraceFlags(TraceFlags.SAMPLED))
        parent = set_span_in_context(above.span or NonRecordingSpan(known))
    made = _tracing.tracer.start_span(name, context=parent or Context(), attributes=attributes)
    context = made.get_span_context()
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=True, span=made)


def _bits(count: int) -> int:
    """Random and not zero, as trace context asks."""
    return _tracing.random.getrandbits(count) or 1
