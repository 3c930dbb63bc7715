"""Spans and metrics over OTLP. The only module that knows OpenTelemetry (extra `otel`)."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from servers.kernel.telemetry import Attributes, Span

_W3C = TraceContextTextMapPropagator()
_UNITS = {
    "usage": "{token}",
    "usd": "USD",
    "refusals": "{refusal}",
    "lost": "{call}",
    "failures": "{failure}",
    "reloads": "{reload}",
    "deleted": "{run}",
}
_PATIENCE = 2  # seconds for one batch: what is left at the end must not hold up the end


class Exporting:
    """Collects in memory and sends from threads of its own."""

    def __init__(self, endpoint: str, service: str) -> None:
        insecure = not endpoint.startswith("https://")
        resource = Resource.create({"service.name": service})
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=_PATIENCE)
            )
        )
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=endpoint, insecure=insecure, timeout=_PATIENCE)
        )
        self._metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer("astromesh")
        self._meter = self._metrics.get_meter("astromesh")
        self._histograms: dict[str, Histogram] = {}

    @contextmanager
    def span(self, name: str, attributes: Attributes, parent: str) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, _above(parent), attributes=attributes
        ) as current:
            yield current

    @contextmanager
    def detached(self, name: str, attributes: Attributes, parent: str) -> Iterator[Span]:
        apart = self._tracer.start_span(name, _above(parent), attributes=attributes)
        try:
            yield apart
        except Exception as error:
            apart.record_exception(error)
            apart.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            apart.end()

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        histogram = self._histograms.get(name)
        if histogram is None:
            unit = _UNITS.get(name.rpartition(".")[2], "s")
            histogram = self._histograms[name] = self._meter.create_histogram(name, unit)
        histogram.record(value, attributes)

    def traceparent(self) -> str:
        headers: dict[str, str] = {}
        _W3C.inject(headers)
        return headers.get("traceparent", "")

    def close(self) -> None:
        """Send what is left. May take some seconds where nobody listens."""
        self._traces.shutdown()
        self._metrics.shutdown()


def _above(parent: str) -> Context | None:
    """What a new span belongs to: the span that is open already (None), else the caller's."""
    if parent and not trace.get_current_span().get_span_context().is_valid:
        return _W3C.extract({"traceparent": parent})
    return None
