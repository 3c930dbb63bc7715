"""What every gRPC server of the mesh offers, whatever services it has."""

import asyncio
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from astromesh.common.v1 import health_service_pb2 as pb
from astromesh.common.v1 import health_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from servers.kernel.errors import Exhausted, InvalidInput, NotReady, Unavailable
from servers.kernel.health import HealthServicer, Readiness
from servers.kernel.serving import Limits, Service, serve
from servers.kernel.status import domain_errors

NAME = "astromesh.common.v1.HealthService"
UP, DOWN = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def two_agents() -> tuple[int, int]:
    return 1, 1


class Slow(health_service_pb2_grpc.HealthServiceServicer):
    """Answers when it is told to."""

    def __init__(self, answer: str = "ok") -> None:
        self.entered, self.go_on, self.answer = asyncio.Event(), asyncio.Event(), answer

    async def GetHealth(self, request: Any, context: Any) -> pb.GetHealthResponse:
        self.entered.set()
        await self.go_on.wait()
        return pb.GetHealthResponse(status=self.answer)


def slow_service(name: str, slow: Slow) -> Service:
    """`slow` under another name: HealthService itself is exempt from limits."""

    def add(server: grpc.aio.Server) -> None:
        method = grpc.unary_unary_rpc_method_handler(
            slow.GetHealth,
            pb.GetHealthRequest.FromString,
            pb.GetHealthResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"Get": method}),)
        )

    return Service(name, add)


def call(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_unary(
        f"/{name}/Get", pb.GetHealthRequest.SerializeToString, pb.GetHealthResponse.FromString
    )


@asynccontextmanager
async def served(readiness: Readiness, *more: Service, **options: Any):
    servicer = HealthServicer(readiness, "1.2.3", two_agents)
    add = partial(health_service_pb2_grpc.add_HealthServiceServicer_to_server, servicer)
    async with (
        serve([Service(NAME, add), *more], readiness, **options) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel


class TestHealth:
    async def test_is_that_of_each_service(self):
        readiness = Readiness({"a.A": lambda: "", "b.B": lambda: "no disk"})
        async with served(readiness) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            seen = [
                (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
                for name in ("a.A", "b.B", "")
            ]
        assert seen == [UP, DOWN, DOWN]

    async def test_follows_the_condition_at_once(self):
        reason = ["loading"]
        async with served(Readiness({"a.A": lambda: reason[0]})) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            before = await health.Check(health_pb2.HealthCheckRequest(service="a.A"))
            reason[0] = ""
            after = await health.Check(health_pb2.HealthCheckRequest(service="a.A"))
        assert (before.status, after.status) == (DOWN, UP)

    async def test_reaches_those_who_watch(self):
        reason = ["loading"]
        async with served(Readiness({"a.A": lambda: reason[0]})) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="a.A")
            )
            assert (await watch.read()).status == DOWN
            reason[0] = ""
            assert (await watch.read()).status == UP
            watch.cancel()

    async def test_of_all_services_is_listed(self):
        async with served(Readiness({"a.A": str, "b.B": lambda: "no disk"})) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.List(health_pb2.HealthListRequest())
        assert {name: each.status for name, each in answer.statuses.items()} == {
            "a.A": UP,
            "b.B": DOWN,
        }

    async def test_of_an_unknown_service_is_not_found(self):
        async with served(Readiness({})) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service="x.X")
                )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_for_people_says_what_runs(self):
        async with served(Readiness({"a.A": str})) as channel:
            stub = health_service_pb2_grpc.HealthServiceStub(channel)
            answer = await stub.GetHealth(pb.GetHealthRequest())
        assert (answer.status, answer.version, answer.agents.ready, answer.agents.broken) == (
            "ok",
            "1.2.3",
            1,
            1,
        )

    async def test_for_people_names_what_is_not_ready(self):
        async with served(Readiness({"b.B": lambda: "no disk"})) as channel:
            stub = health_service_pb2_grpc.HealthServiceStub(channel)
            with pytest.raises(Unavailable, match=r"b\.B: no disk"), domain_errors():
                await stub.GetHealth(pb.GetHealthRequest())


class TestReflection:
    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    async def test_lists_the_services(self, version):
        async with served(Readiness({})) as channel:
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )()
            await ask.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
            answer = await ask.read()
            await ask.done_writing()
            await ask.read()
        assert NAME in [each.name for each in answer.list_services_response.service]

    async def test_describes_whatever_it_lists(self):
        async with served(Readiness({})) as channel:
            ask = channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )()
            await ask.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
            for each in (await ask.read()).list_services_response.service:
                wanted = reflection_pb2.ServerReflectionRequest(file_containing_symbol=each.name)
                await ask.write(wanted)
                assert (await ask.read()).HasField("file_descriptor_response")
            await ask.done_writing()
            await ask.read()


class TestAPort:
    async def test_that_is_taken_is_named_with_the_way_out(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(NotReady, match=f"{port}.*--grpc-port") as caught:
                async with serve([], Readiness({}), port=port):
                    pass
        assert caught.value.reason == "PORT_IN_USE"

    async def test_of_another_mesh_is_taken_too(self):
        async with serve([], Readiness({})) as port:
            with pytest.raises(NotReady):
                async with serve([], Readiness({}), port=port):
                    pass


class TestLimits:
    async def test_a_message_that_is_too_large_is_refused_and_the_next_call_works(self):
        async with served(Readiness({}), limits=Limits(message_bytes=1000)) as channel:
            raw = channel.unary_unary(f"/{NAME}/GetHealth")
            with pytest.raises(Exhausted), domain_errors():
                await raw(b"\x0a" * 2000)
            assert await raw(b"")

    async def test_an_answer_may_be_larger_than_a_message_that_comes_in(self):
        slow, limits = Slow("x" * 5000), Limits(message_bytes=1000)
        slow.go_on.set()
        async with served(Readiness({}), slow_service("t.T", slow), limits=limits) as channel:
            answer = await call(channel, "t.T")(pb.GetHealthRequest())
        assert len(answer.status) == 5000

    async def test_an_answer_that_is_too_large_is_an_error(self):
        slow, limits = Slow("x" * 5000), Limits(answer_bytes=1000)
        slow.go_on.set()
        async with served(Readiness({}), slow_service("t.T", slow), limits=limits) as channel:
            with pytest.raises(Exhausted), domain_errors():
                await call(channel, "t.T")(pb.GetHealthRequest())

    async def test_a_request_that_is_no_message_is_refused_and_the_next_call_works(self):
        async with served(Readiness({})) as channel:
            raw = channel.unary_unary(f"/{NAME}/GetHealth")
            with pytest.raises(InvalidInput), domain_errors():
                await raw(b"\xff\xff\xff")
            assert await raw(b"")

    async def test_calls_beyond_the_limit_are_told_to_come_back(self):
        slow = Slow()
        limits = Limits(calls=1)
        async with served(Readiness({}), slow_service("t.T", slow), limits=limits) as channel:
            first = call(channel, "t.T")(pb.GetHealthRequest())
            await slow.entered.wait()
            with pytest.raises(Exhausted) as caught, domain_errors():
                await call(channel, "t.T")(pb.GetHealthRequest())
            slow.go_on.set()
            assert (await first).status == "ok"
            assert (await call(channel, "t.T")(pb.GetHealthRequest())).status == "ok"
        assert (caught.value.reason, caught.value.retry_after) == ("TOO_MANY_CALLS", 1.0)


class TestTheEnd:
    async def test_lets_a_call_finish(self):
        slow, readiness = Slow(), Readiness({"t.T": str})
        serving = serve([slow_service("t.T", slow)], readiness)
        port = await serving.__aenter__()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = call(channel, "t.T")(pb.GetHealthRequest())
            await slow.entered.wait()
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == UP
            stopping = asyncio.create_task(serving.__aexit__(None, None, None))
            assert (await watch.read()).status == DOWN
            slow.go_on.set()
            assert (await answer).status == "ok"
        await stopping

    async def test_ends_the_watches_once_they_know(self):
        readiness = Readiness({"t.T": str})
        serving = serve([], readiness)
        port = await serving.__aenter__()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="t.T")
            )
            assert (await watch.read()).status == UP
            stopping = asyncio.create_task(serving.__aexit__(None, None, None))
            assert (await watch.read()).status == DOWN
            assert await watch.read() is grpc.aio.EOF
        await stopping

    async def test_cuts_what_takes_too_long(self):
        slow = Slow()
        async with served(
            Readiness({}), slow_service("t.T", slow), limits=Limits(grace=0.05)
        ) as channel:
            answer = call(channel, "t.T")(pb.GetHealthRequest())
            await slow.entered.wait()
            serving = answer
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await serving
