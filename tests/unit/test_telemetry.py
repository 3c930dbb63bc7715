"""Spans and metrics arrive at a collector, and nothing happens without one."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from servers.assembly.files import Files
from servers.config import load_config
from servers.kernel import telemetry
from servers.kernel.errors import Unavailable
from servers.memory.sweeping import sweep_all
from servers.rag.catalogue import taken_over

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector(
    trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer
):
    """Keeps what it is sent, as an OTLP collector would."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.endpoint = ""

    async def Export(self, request: Any, context: Any) -> Any:
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            self.spans += [
                s for r in request.resource_spans for c in r.scope_spans for s in c.spans
            ]
            return trace_service_pb2.ExportTraceServiceResponse()
        self.metrics += [
            m for r in request.resource_metrics for c in r.scope_metrics for m in c.metrics
        ]
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield collector
    await server.stop(None)


class TestWithACollector:
    async def test_a_span_arrives_with_its_attributes(self, collector):
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            with telemetry.span("chat m", {telemetry.MODEL: "m"}) as span:
                span.set_attribute(telemetry.INPUT_TOKENS, 7)
        (seen,) = collector.spans
        assert seen.name == "chat m"
        assert {a.key for a in seen.attributes} == {telemetry.MODEL, telemetry.INPUT_TOKENS}

    async def test_a_store_that_can_not_be_swept_is_counted(self, collector):
        async def fails() -> None:
            raise Unavailable("the disk is full", reason="DISK_FULL")

        async def breaks() -> None:
            raise OSError("no such file")

        async def swept() -> int:
            return 1

        sweeps = [("redis", fails), ("faiss", breaks), ("sqlite", swept)]
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            await sweep_all("memories", sweeps)
        (seen,) = collector.metrics
        assert (seen.name, seen.unit) == (telemetry.SWEEPS_FAILED, "{failure}")
        points = {p.attributes[0].value.string_value: p.sum for p in seen.histogram.data_points}
        assert points == {"redis": 1, "faiss": 1}

    async def test_what_became_of_changed_files_is_counted_and_traced(self, collector, tmp_path):
        def write(kind, name, text):
            path = tmp_path / ("agents" if kind == "Agent" else "rag") / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"apiVersion: astromesh/v1\nkind: {kind}\n{text}")

        def agent(name, model):
            primary = f"{{provider: ollama, model: {model}}}"
            text = f"metadata: {{name: {name}}}\nspec: {{model: {{primary: {primary}}}}}"
            write("Agent", f"{name}.agent.yaml", text)

        for name in ("changes", "goes", "stays"):
            agent(name, "m")
        write("RAGPipeline", "breaks.rag.yaml", "metadata: {name: breaks}")
        config = load_config(tmp_path, tmp_path / "state", {})
        files = Files(config, time.time)
        files.tell_agents(lambda declared: None)

        async def take(declared, users):
            return tuple(taken_over(old, declared, users).values())

        old = {each.name: each for each in config.pipelines}
        files.tell_pipelines(take)
        agent("changes", "other")
        (tmp_path / "agents" / "goes.agent.yaml").unlink()
        write("RAGPipeline", "breaks.rag.yaml", "metadata: {name: breaks}\nspec: {x: 1}")
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            await files.read_again()
        (seen,) = collector.metrics
        assert {
            tuple(a.value.string_value for a in p.attributes): p.sum
            for p in seen.histogram.data_points
        } == {
            ("agent", "taken"): 1,
            ("agent", "removed"): 1,
            ("pipeline", "refused"): 1,
        }
        (traced,) = collector.spans
        numbers = {a.key: a.value.int_value for a in traced.attributes}
        assert traced.name == "reload files"
        assert numbers == {
            "astromesh.reloads.agent.taken": 1,
            "astromesh.reloads.agent.removed": 1,
            "astromesh.reloads.agent.refused": 0,
            "astromesh.reloads.pipeline.taken": 0,
            "astromesh.reloads.pipeline.removed": 0,
            "astromesh.reloads.pipeline.refused": 1,
        }

    async def test_a_span_joins_the_callers_trace(self, collector):
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            with telemetry.belonging_to(PARENT), telemetry.span("outer"), telemetry.span("inner"):
                sent = telemetry.outgoing_headers()["traceparent"]
        inner, outer = collector.spans
        assert outer.trace_id.hex() == inner.trace_id.hex() == PARENT.split("-")[1]
        assert inner.parent_span_id == outer.span_id
        assert sent.split("-")[2] == inner.span_id.hex()

    async def test_a_failure_marks_its_span(self, collector):
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            with pytest.raises(ValueError, match="broken"), telemetry.span("work"):
                raise ValueError("broken")
        assert collector.spans[0].status.code == 2

    @pytest.mark.parametrize(
        ("name", "unit"),
        [
            (telemetry.MODEL_DURATION, "s"),
            (telemetry.FIRST_CHUNK, "s"),
            (telemetry.TOKENS, "{token}"),
            (telemetry.COST, "USD"),
            (telemetry.REFUSALS, "{refusal}"),
            (telemetry.USAGE_LOST, "{call}"),
            (telemetry.RELOADS, "{reload}"),
        ],
    )
    async def test_a_measurement_says_in_what_it_is_measured(self, collector, name, unit):
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            telemetry.record(name, 1)
        (metric,) = collector.metrics
        assert metric.unit == unit

    async def test_a_measurement_arrives(self, collector):
        async with telemetry.open_telemetry({telemetry.ENDPOINT: collector.endpoint}, "test"):
            telemetry.record(telemetry.MODEL_DURATION, 0.5, {telemetry.MODEL: "m"})
        names = {metric.name for metric in collector.metrics}
        assert telemetry.MODEL_DURATION in names


class TestWithoutOne:
    async def test_the_callers_trace_is_handed_on(self):
        async with telemetry.open_telemetry({}, "test"):
            with telemetry.belonging_to(PARENT), telemetry.span("work"):
                assert telemetry.outgoing_headers() == {"traceparent": PARENT}
                assert telemetry.trace_id() == PARENT.split("-")[1]

    async def test_nothing_is_sent_along_where_nobody_traces(self):
        assert telemetry.outgoing_headers() == {}
        assert telemetry.trace_id() == ""

    async def test_traces_of_two_tasks_stay_apart(self):
        async def work(parent: str) -> dict[str, str]:
            telemetry.received(parent)
            await asyncio.sleep(0)
            return telemetry.outgoing_headers()

        other = PARENT.replace("4bf9", "0000")
        seen = await asyncio.gather(work(PARENT), work(other))
        assert [each["traceparent"] for each in seen] == [PARENT, other]
