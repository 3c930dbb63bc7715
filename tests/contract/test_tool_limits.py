"""What bounds the calls of tools: time, results and rates; in process and over the wire alike."""

import asyncio
import threading

import pytest

from servers.domain.caller import Caller
from servers.domain.tools import Outcome
from servers.kernel.errors import InvalidInput
from servers.tools.declare import tool
from tests.contract.tool_fixture import ME, add, ask, reached, shout, tools
from tests.patience import PATIENCE

__all__ = ["reached"]


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
            go.wait(PATIENCE)

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
            await asyncio.wait_for(running.wait(), PATIENCE)
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
            await asyncio.wait_for(started.wait(), PATIENCE)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(cancelled.wait(), PATIENCE)


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
