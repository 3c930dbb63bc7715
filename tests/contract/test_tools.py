"""What every implementation of `servers.domain.services.Tools` promises."""

import asyncio
import json
import threading
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from astromesh.tools.v1 import tool_service_pb2 as pb
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.tools import Outcome, ToolRequest
from servers.kernel.errors import InvalidInput, NotFound
from servers.kernel.status import StatusInterceptor
from servers.tools.adapters.builtin import function_tools
from servers.tools.adapters.function import FunctionTool
from servers.tools.declare import tool
from servers.tools.ports import Invocation
from servers.tools.remote import RemoteTools
from servers.tools.service import ToolService
from servers.tools.servicer import ToolServicer
from servers.tools.threads import Threads

ME = Caller("acme", "ada")


@asynccontextmanager
async def in_process(service):
    yield service


@asynccontextmanager
async def served(service):
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    tool_service_pb2_grpc.add_ToolServiceServicer_to_server(ToolServicer(service), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@asynccontextmanager
async def over_the_wire(service):
    async with served(service) as channel:
        yield RemoteTools(channel)


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@tool(idempotent=True, timeout=7.0)
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


async def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def tools(*functions, threads: int = 4, **options) -> ToolService:
    pool = Threads(threads)
    return ToolService([FunctionTool(each, pool) for each in functions], **options)


def ask(name: str, options: dict | None = None, **arguments) -> ToolRequest:
    return ToolRequest(name, json.dumps(arguments), **(options or {}))


class TestListing:
    async def test_is_by_name(self, reached):
        async with reached(tools(shout, add)) as service:
            assert [each.name for each in await service.list()] == ["add", "shout"]

    async def test_shows_what_the_function_declares(self, reached):
        async with reached(tools(add)) as service:
            found = await service.get("add")
        assert (found.kind, found.idempotent, found.timeout) == ("internal", True, 7.0)
        assert found.spec.description == "Add two numbers."
        assert found.spec.parameters["required"] == ["a"]
        assert found.spec.parameters["properties"]["b"] == {
            "default": 1,
            "description": "the second",
            "type": "integer",
        }

    async def test_does_not_assume_that_a_call_may_be_repeated(self, reached):
        async with reached(tools(shout)) as service:
            assert not (await service.get("shout")).idempotent

    async def test_of_an_unknown_name_says_what_is_near(self, reached):
        async with reached(tools(shout, add)) as service:
            with pytest.raises(NotFound, match="did you mean 'shout'") as caught:
                await service.get("shuot")
        assert caught.value.facts == {"tool": "shuot"}


class TestACall:
    async def test_runs_a_function_in_a_thread(self, reached):
        def where() -> bool:
            return threading.current_thread() is threading.main_thread()

        async with reached(tools(where)) as service:
            assert (await service.call(ME, ask("where"))).content == "false"

    async def test_runs_an_async_function_on_the_loop(self, reached):
        async with reached(tools(shout)) as service:
            result = await service.call(ME, ask("shout", text="hi"))
        assert (result.content, result.outcome, result.is_error) == ("HI", Outcome.OK, False)

    async def test_returns_what_is_no_text_as_json(self, reached):
        def found() -> dict[str, list[int]]:
            return {"rows": [1, 2]}

        async with reached(tools(found)) as service:
            assert (await service.call(ME, ask("found"))).content == '{"rows":[1,2]}'

    async def test_tells_the_tool_who_asks_and_the_idempotency_key(self, reached):
        async def who(invocation: Invocation) -> str:
            caller = invocation.caller
            agent = invocation.context["agent"]
            return f"{caller.tenant} {caller.principal} {invocation.idempotency_key} {agent}"

        options = {"idempotency_key": "call-7", "context": {"agent": "support"}}
        async with reached(tools(who)) as service:
            result = await service.call(ME, ask("who", options))
        assert result.content == "acme ada call-7 support"

    async def test_survives_half_a_surrogate_pair(self, reached):
        def half() -> str:
            return "\ud83d!"

        async with reached(tools(half, shout)) as service:
            back = await service.call(ME, ask("half"))
            there = await service.call(ME, ToolRequest("shout", '{"text": "\ud83d!"}'))
        assert (back.content, there.content) == ("?!", "?!")

    async def test_says_how_long_it_took(self, reached):
        async with reached(tools(shout)) as service:
            assert (await service.call(ME, ask("shout", text="hi"))).duration >= 0.0


class TestWhatGoesWrong:
    async def test_an_exception_is_a_result_with_type_and_message(self, reached):
        def broken() -> None:
            raise ValueError("no such row")

        async with reached(tools(broken)) as service:
            result = await service.call(ME, ask("broken"))
        assert (result.outcome, result.content) == (Outcome.ERROR, "ValueError: no such row")

    @pytest.mark.parametrize("error", [SystemExit, StopIteration, TimeoutError, RecursionError])
    async def test_no_exception_is_too_strange(self, reached, error):
        def broken() -> None:
            raise error("odd")

        async with reached(tools(broken)) as service:
            result = await service.call(ME, ask("broken"))
        assert result.outcome is Outcome.ERROR

    @pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, TimeoutError])
    async def test_no_exception_of_an_async_function_is_too_strange(self, reached, error):
        async def broken() -> None:
            raise error("odd")

        async with reached(tools(broken)) as service:
            result = await service.call(ME, ask("broken"))
        assert result.outcome is Outcome.ERROR

    async def test_a_result_that_can_not_be_written_is_an_error(self, reached):
        def loop() -> list:
            found: list = []
            found.append(found)
            return found

        async with reached(tools(loop)) as service:
            assert (await service.call(ME, ask("loop"))).outcome is Outcome.ERROR

    async def test_arguments_that_do_not_fit_are_explained_with_the_schema(self, reached):
        async with reached(tools(add)) as service:
            result = await service.call(ME, ask("add", a="many"))
        assert result.outcome is Outcome.ERROR
        assert "a: Input should be a valid integer" in result.content
        assert '"required":["a"]' in result.content

    async def test_broken_json_is_explained(self, reached):
        async with reached(tools(add)) as service:
            result = await service.call(ME, ToolRequest("add", '{"a": 1'))
        assert result.outcome is Outcome.ERROR
        assert "Invalid JSON" in result.content

    async def test_an_unknown_tool_that_is_near_to_none_is_told_what_there_is(self, reached):
        async with reached(tools(shout, add)) as service:
            result = await service.call(ME, ask("zzz"))
        assert result.content == "no tool is named 'zzz'; there are 'add', 'shout'"

    async def test_an_unknown_tool_is_a_result_that_says_what_is_near(self, reached):
        async with reached(tools(shout, add)) as service:
            result = await service.call(ME, ask("ad"))
        assert result.outcome is Outcome.ERROR
        assert "did you mean 'add'" in result.content


class TestATimeout:
    async def test_is_the_tools_own(self, reached):
        @tool(timeout=0.01)
        async def slow() -> None:
            await asyncio.Event().wait()

        async with reached(tools(slow)) as service:
            result = await service.call(ME, ask("slow"))
        assert result.outcome is Outcome.TIMEOUT
        assert result.content == "'slow' did not finish within 0.01 s"

    async def test_may_be_shortened_by_the_request(self, reached):
        async def slow() -> None:
            await asyncio.Event().wait()

        async with reached(tools(slow)) as service:
            result = await service.call(ME, ask("slow", {"timeout": 0.01}))
        assert result.outcome is Outcome.TIMEOUT

    async def test_may_not_be_prolonged_by_the_request(self, reached):
        @tool(timeout=0.01)
        async def slow() -> None:
            await asyncio.Event().wait()

        async with reached(tools(slow)) as service:
            result = await service.call(ME, ask("slow", {"timeout": 60.0}))
        assert result.outcome is Outcome.TIMEOUT

    async def test_gives_up_on_a_thread_that_goes_on(self, reached):
        go = threading.Event()

        @tool(timeout=0.01)
        def stuck() -> None:
            go.wait(10)

        async with reached(tools(stuck, add)) as service:
            result = await service.call(ME, ask("stuck"))
            other = await service.call(ME, ask("add", a=1))
        go.set()
        assert (result.outcome, other.content) == (Outcome.TIMEOUT, "2")

    async def test_counts_the_wait_for_a_turn(self, reached):
        running = asyncio.Event()

        async def slow() -> None:
            running.set()
            await asyncio.Event().wait()

        async with reached(tools(slow, shout, max_concurrent=1)) as service:
            first = asyncio.create_task(service.call(ME, ask("slow", {"timeout": 0.2})))
            await asyncio.wait_for(running.wait(), 5)
            second = await service.call(ME, ask("slow", {"timeout": 0.01}))
            assert second.outcome is Outcome.TIMEOUT
            await first
            assert (await service.call(ME, ask("shout", text="hi"))).content == "HI"


class TestACancel:
    async def test_reaches_the_tool(self, reached):
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with reached(tools(slow)) as service:
            call = asyncio.create_task(service.call(ME, ask("slow")))
            await asyncio.wait_for(started.wait(), 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(cancelled.wait(), 5)


class TestAResultBudget:
    async def test_cuts_and_says_how_much_is_missing(self, reached):
        def long() -> str:
            return "x" * 8000

        async with reached(tools(long)) as service:
            result = await service.call(ME, ask("long", {"max_result_tokens": 1000}))
        assert result.content.endswith("\n[... 1006 tokens cut]")
        assert len(result.content) <= 4000
        assert result.truncated_tokens == 1006

    async def test_leaves_alone_what_fits(self, reached):
        async with reached(tools(shout)) as service:
            result = await service.call(ME, ask("shout", {"max_result_tokens": 10}, text="hi"))
        assert (result.content, result.truncated_tokens) == ("HI", 0)

    async def test_applies_where_nobody_asked(self, reached):
        def endless() -> str:
            return "x" * 2_000_000

        async with reached(tools(endless)) as service:
            assert len((await service.call(ME, ask("endless"))).content) <= 400_000


class TestARateLimit:
    def limited(self, agent: str = "support") -> dict:
        limit = {"max_calls": 1, "window_seconds": 60}
        return {"context": {"agent": agent, "rate_limit": limit}}

    async def test_is_an_error_the_model_can_read(self, reached):
        clock = iter(float(n) for n in range(100))
        async with reached(tools(add, now=lambda: next(clock))) as service:
            first = await service.call(ME, ask("add", self.limited(), a=1))
            second = await service.call(ME, ask("add", self.limited(), a=1))
        assert first.outcome is Outcome.OK
        assert second.outcome is Outcome.ERROR
        assert "'add' was called too often: try again in" in second.content

    async def test_is_each_agents_own(self, reached):
        async with reached(tools(add)) as service:
            await service.call(ME, ask("add", self.limited(), a=1))
            other = await service.call(ME, ask("add", self.limited("sales"), a=1))
        assert other.outcome is Outcome.OK

    async def test_is_each_tenants_own(self, reached):
        async with reached(tools(add)) as service:
            await service.call(ME, ask("add", self.limited(), a=1))
            other = await service.call(Caller("globex"), ask("add", self.limited(), a=1))
        assert other.outcome is Outcome.OK

    async def test_that_is_none_is_the_callers_mistake(self, reached):
        async with reached(tools(add)) as service:
            with pytest.raises(InvalidInput, match="rate_limit"):
                await service.call(ME, ask("add", {"context": {"rate_limit": "often"}}, a=1))


async def test_blocking_tools_run_side_by_side(reached):
    both = threading.Barrier(2)

    def meet() -> str:
        both.wait(10)
        return "met"

    async with reached(tools(meet)) as service:
        results = await asyncio.gather(*(service.call(ME, ask("meet")) for _ in range(2)))
    assert [each.content for each in results] == ["met", "met"]


async def test_a_blocking_tool_does_not_block_the_loop(reached):
    go = threading.Event()

    def waits() -> bool:
        return go.wait(10)

    async with reached(tools(waits)) as service:
        call = asyncio.create_task(service.call(ME, ask("waits")))
        await asyncio.sleep(0)
        go.set()
        assert (await call).content == "true"


class TestTwoToolsOfOneName:
    def test_are_refused(self):
        with pytest.raises(InvalidInput, match="two tools are named 'add'"):
            tools(add, add)

    def test_may_be_told_apart_by_other_names(self):
        function_tools({"plus": add, "add": add}, Threads())


class TestOnTheWire:
    """What only callers of the RPCs see."""

    async def stub(self, stack, *functions):
        channel = await stack.enter_async_context(served(tools(*functions)))
        return tool_service_pb2_grpc.ToolServiceStub(channel)

    async def test_arguments_may_be_an_object(self):
        request = pb.CallToolRequest(tool="add")
        request.arguments.update({"a": 41})
        async with AsyncExitStack() as stack:
            answer = await (await self.stub(stack, add)).CallTool(request)
        assert (answer.content, answer.outcome) == ("42", pb.TOOL_OUTCOME_OK)

    async def test_a_list_comes_in_pages(self):
        async with AsyncExitStack() as stack:
            stub = await self.stub(stack, shout, add)
            first = await stub.ListTools(pb.ListToolsRequest(page_size=1))
            then = pb.ListToolsRequest(page_size=1, page_token=first.next_page_token)
            second = await stub.ListTools(then)
        assert [tool.name for tool in first.tools] == ["add"]
        assert [tool.name for tool in second.tools] == ["shout"]
        assert second.next_page_token == ""

    @pytest.mark.parametrize("wrong", [{"page_size": -1}, {"page_token": "made-up"}])
    async def test_a_page_that_is_none_is_refused(self, wrong):
        async with AsyncExitStack() as stack:
            stub = await self.stub(stack, add)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListTools(pb.ListToolsRequest(**wrong))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
