"""What every implementation of `servers.domain.services.Tools` promises."""

import asyncio
import threading
from contextlib import AsyncExitStack

import grpc
import pytest
from astromesh.tools.v1 import tool_service_pb2 as pb
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.domain.tools import Outcome, ToolRequest
from servers.kernel.errors import InvalidInput, NotFound
from servers.tools.adapters.builtin import function_tools
from servers.tools.ports import Invocation
from servers.tools.threads import Threads
from tests.contract.tool_fixture import ME, add, ask, reached, served, shout, tools
from tests.patience import PATIENCE

__all__ = ["reached"]


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


async def test_blocking_tools_run_side_by_side(reached):
    both = threading.Barrier(2)

    def meet() -> str:
        both.wait(PATIENCE)
        return "met"

    async with reached(tools(meet)) as service:
        results = await asyncio.gather(*(service.call(ME, ask("meet")) for _ in range(2)))
    assert [each.content for each in results] == ["met", "met"]


async def test_a_blocking_tool_does_not_block_the_loop(reached):
    go = threading.Event()

    def waits() -> bool:
        return go.wait(PATIENCE)

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
