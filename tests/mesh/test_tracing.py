"""One trace from the caller through Envoy and the mesh to the provider, told over OTLP."""

import signal
from contextlib import asynccontextmanager

import grpc
import httpx
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

from tests.mesh.mesh_process import mesh_process
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
ADD = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])


class Collector(traces_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """What an OTLP collector is sent."""

    def __init__(self):
        self.spans, self.metrics = [], set()

    async def Export(self, request, context):
        if isinstance(request, traces_pb.ExportTraceServiceRequest):
            scopes = [scope for each in request.resource_spans for scope in each.scope_spans]
            self.spans += [span for scope in scopes for span in scope.spans]
            return traces_pb.ExportTraceServiceResponse()
        scopes = [scope for each in request.resource_metrics for scope in each.scope_metrics]
        self.metrics |= {metric.name for scope in scopes for metric in scope.metrics}
        return metrics_pb.ExportMetricsServiceResponse()


@asynccontextmanager
async def collecting():
    """A collector, and the address where it listens."""
    collector, server = Collector(), grpc.aio.server()
    traces_grpc.add_TraceServiceServicer_to_server(collector, server)
    metrics_grpc.add_MetricsServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_run_is_one_trace_from_the_caller_to_the_provider(tmp_path):
    async with collecting() as (collector, endpoint), openai_server(ADD, Reply(("5",))) as model:
        write_agents(tmp_path, agent("helper", model.endpoint, tools=[{"name": "calculator"}]))
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        with mesh_process(tmp_path, env=env) as mesh:
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            async with httpx.AsyncClient(
                base_url=mesh.url, timeout=PATIENCE, trust_env=False
            ) as http:
                await http.post("/v1/agents/helper:run", json={"query": "?"}, headers=headers)
            mesh.signal(signal.SIGTERM)  # what is left is sent at the end
            assert await mesh.ended() == 0
    spans = {span.span_id.hex(): span for span in collector.spans}
    ours = {key: span for key, span in spans.items() if span.trace_id.hex() == TRACE}
    sent = [asked.headers["traceparent"].split("-") for asked in model.requests]
    names = {span.name for span in ours.values()}
    assert {"invoke_agent", "execute_tool"} <= names
    assert any("RunAgent" in name for name in names)
    assert {span.parent_span_id.hex() for span in ours.values()} <= {*ours, CALLER}
    assert [trace for _, trace, _, _ in sent] == [TRACE, TRACE]
    assert {parent for _, _, parent, _ in sent} <= set(ours)
    assert collector.metrics


async def test_the_run_of_a_sub_agent_is_part_of_the_trace_of_its_parent(tmp_path):
    asks = Reply((), calls=[Call("worker", '{"query": "find out"}')])
    replies = asks, Reply(("Nothing",)), Reply(("Done",))
    async with collecting() as (collector, endpoint), openai_server(*replies) as model:
        lead = agent("lead", model.endpoint, tools=[{"name": "worker", "type": "agent"}])
        write_agents(tmp_path, lead, agent("worker", model.endpoint))
        with mesh_process(tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as mesh:
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            async with httpx.AsyncClient(
                base_url=mesh.url, timeout=PATIENCE, trust_env=False
            ) as http:
                await http.post("/v1/agents/lead:run", json={"query": "?"}, headers=headers)
            mesh.signal(signal.SIGTERM)
            assert await mesh.ended() == 0
    sent = [asked.headers["traceparent"].split("-")[1] for asked in model.requests]
    assert sent == [TRACE] * 3
    spans = {span.span_id.hex(): span for span in collector.spans}
    runs = [span for span in spans.values() if span.name.startswith("invoke_agent")]
    above = [spans[run.parent_span_id.hex()].name for run in runs]
    assert len(runs) == 2
    assert "execute_tool" in above


async def test_a_collector_that_is_not_there_hurts_nobody(tmp_path):
    async with openai_server() as model:
        write_agents(tmp_path, agent("helper", model.endpoint))
        with mesh_process(tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}) as m:
            async with httpx.AsyncClient(base_url=m.url, timeout=PATIENCE, trust_env=False) as http:
                answer = await http.post("/v1/agents/helper:run", json={"query": "?"})
    assert answer.json()["state"] == "RUN_STATE_COMPLETED"
