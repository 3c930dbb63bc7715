"""What a `cache_ttl` promises: an earlier answer to the very same request, and no other."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import pytest

from servers.domain.caller import Account
from servers.domain.chat import (
    ChatRequest,
    Finish,
    FinishReason,
    Image,
    Message,
    ModelRef,
    ReasoningPiece,
    Role,
    Sampling,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
    says,
)
from servers.kernel.errors import InvalidInput, Unavailable
from servers.router.wrappers.answers import Answers, key_of
from servers.router.wrappers.cache import CachingRouter
from tests.contract.router_fixture import Clock, in_process, over_the_wire, provider, router
from tests.patience import PATIENCE, PROMPTLY
from tests.scripted.http_server import Call, Reply, Then, refuses
from tests.scripted.openai_server import openai_server

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"})
FIRST, SECOND = Reply(pieces=("fi", "rst")), Reply(pieces=("second",))


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def opened(request, tmp_path):
    return partial(router, request.param, tmp_path, wrapped=CachingRouter)


def ask(**more) -> ChatRequest:
    messages = (says(Role.USER, "hello"),)
    return ChatRequest(**{"messages": messages, "candidates": (REF,), "cache_ttl": 60.0, **more})


REF = ModelRef("up", "m")


async def whole(models, request: ChatRequest) -> tuple[str, Finish]:
    answer = await models.complete(request)
    assert answer.message.tool_calls == answer.finish.tool_calls
    return answer.message.text, answer.finish


async def streamed(models, request: ChatRequest) -> tuple[str, Finish]:
    *pieces, finish = [step async for step in models.stream(request)]
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)), finish


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def answered(request):
    return request.param


class TestASecondRequest:
    async def test_is_answered_by_the_first_answer(self, opened, answered):
        async with (
            openai_server(FIRST, SECOND) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            first, again = await answered(models, ask()), await answered(models, ask())
        assert (first[0], again[0], len(up.requests)) == ("first", "first", 1)

    async def test_is_told_who_answered_and_that_it_cost_nothing(self, opened, answered):
        async with openai_server(FIRST) as up, opened(provider("up", up.endpoint)) as models:
            _, first = await answered(models, ask())
            _, again = await answered(models, ask())
        assert (first.cached, first.usage) == (False, Usage(7, 2))
        assert again == Finish(FinishReason.STOP, (), Usage(cost_usd=0.0), "up", "m", cached=True)

    async def test_gets_tool_calls_too(self, opened, answered):
        reply = Reply(pieces=(), calls=(Call("weather", "{}", "c1"),))
        async with openai_server(reply) as up, opened(provider("up", up.endpoint)) as models:
            for _ in range(2):
                _, finish = await answered(models, ask(tools=(WEATHER,)))
        assert (finish.cached, finish.reason) == (True, FinishReason.TOOL_CALLS)
        assert finish.tool_calls == (ToolCall("c1", "weather", "{}"),)

    async def test_may_be_of_the_other_kind(self, opened):
        async with (
            openai_server(FIRST, SECOND) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            await whole(models, ask())
            assert (await streamed(models, ask()))[0] == "first"
            other = ask(sampling=Sampling(seed=1))
            await streamed(models, other)
            assert (await whole(models, other))[0] == "second"

    async def test_streams_thoughts_and_text_at_once(self, opened):
        reply = Reply(reasoning=("h", "m"), pieces=("o", "k"))
        async with openai_server(reply) as up, opened(provider("up", up.endpoint)) as models:
            await models.complete(ask())
            steps = [step async for step in models.stream(ask())]
        assert steps[:-1] == [ReasoningPiece("hm"), TextPiece("ok")]

    async def test_that_wants_none_is_asked(self, opened, answered):
        async with (
            openai_server(FIRST, SECOND) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            await answered(models, ask())
            text, finish = await answered(models, ask(cache_ttl=0.0))
        assert (text, finish.cached) == ("second", False)

    async def test_takes_no_answer_that_is_older_than_it_says(self, tmp_path, answered):
        clock = Clock()
        wrapped = partial(CachingRouter, now=clock)
        async with (
            openai_server(FIRST, SECOND) as up,
            router(in_process, tmp_path, provider("up", up.endpoint), wrapped=wrapped) as models,
        ):
            await answered(models, ask(cache_ttl=1.0))
            clock.now = 10.0
            assert (await answered(models, ask(cache_ttl=10.0)))[0] == "first"
            assert (await answered(models, ask(cache_ttl=9.0)))[0] == "second"
            assert (await answered(models, ask(cache_ttl=1.0)))[0] == "second"
        assert len(up.requests) == 2


class TestAnAnswer:
    @pytest.mark.parametrize("reason", ["length", "content_filter"])
    async def test_that_is_not_whole_is_not_kept(self, opened, answered, reason):
        part = Reply(pieces=("par",), reason=reason)
        async with openai_server(part, FIRST) as up, opened(provider("up", up.endpoint)) as models:
            await answered(models, ask())
            assert (await answered(models, ask()))[0] == "first"

    async def test_that_failed_is_not_kept(self, opened, answered):
        async with (
            openai_server(refuses(500), FIRST) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            with pytest.raises(Unavailable):
                await answered(models, ask())
            assert (await answered(models, ask()))[0] == "first"

    async def test_that_was_left_is_not_kept(self, opened):
        hanging = Reply(pieces=("par",), then=Then.HANG)
        async with (
            openai_server(hanging, FIRST) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            async with aclosing(models.stream(ask())) as steps:
                await anext(steps)
            await asyncio.wait_for(up.left.wait(), PROMPTLY)
            assert (await streamed(models, ask()))[0] == "first"

    async def test_gives_way_to_later_ones_where_there_are_too_many(self, tmp_path):
        few = partial(CachingRouter, answers=Answers(most=2))
        assert await self._asked_again(tmp_path, few) == [0, 2]

    async def test_gives_way_to_later_ones_where_they_are_too_large(self, tmp_path):
        small = partial(CachingRouter, answers=Answers(most_bytes=2_500))
        assert await self._asked_again(tmp_path, small) == [0, 2]

    async def _asked_again(self, folder, wrapped) -> list[int]:
        """Which of three requests are still answered from the cache; the first was used last."""
        requests = [ask(sampling=Sampling(seed=seed)) for seed in range(3)]
        async with (
            openai_server(FIRST) as up,
            router(in_process, folder, provider("up", up.endpoint), wrapped=wrapped) as models,
        ):
            for request in (requests[0], requests[1], requests[0], requests[2]):
                await models.complete(request)
            kept = [n for n in (0, 2, 1) if (await models.complete(requests[n])).finish.cached]
        return sorted(kept)


class TestEqualRequestsAtOnce:
    async def test_are_asked_once(self, opened, answered):
        hold = asyncio.Event()
        async with (
            openai_server(replace(FIRST, hold=hold)) as up,
            opened(provider("up", up.endpoint)) as models,
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(answered(models, ask())) for _ in range(20)]
            await up.asked.wait()
            hold.set()
        found = [task.result() for task in tasks]
        assert ({text for text, _ in found}, len(up.requests)) == ({"first"}, 1)
        assert sorted(finish.cached for _, finish in found) == [False] + [True] * 19

    async def test_ask_for_themselves_where_the_first_one_fails(self, opened, answered):
        hold = asyncio.Event()
        failing = Reply(hold=hold, status=400, error="no")
        async with (
            openai_server(failing, FIRST) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            tasks = [asyncio.create_task(answered(models, ask())) for _ in range(5)]
            await up.asked.wait()
            hold.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(each, InvalidInput) for each in found) == 1
        assert sum(isinstance(each, tuple) for each in found) == 4
        assert len(up.requests) == 2

    async def test_ask_for_themselves_where_the_first_one_leaves(self, opened, answered):
        held = replace(FIRST, hold=asyncio.Event())
        async with (
            openai_server(held, SECOND) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            first = asyncio.create_task(answered(models, ask()))
            await up.asked.wait()
            others = [asyncio.create_task(answered(models, ask())) for _ in range(5)]
            await asyncio.sleep(0)
            first.cancel()
            found = await asyncio.gather(*others)
        assert ({text for text, _ in found}, len(up.requests)) == ({"second"}, 2)

    async def test_do_not_line_up_for_an_answer_that_is_not_kept(self, tmp_path, answered):
        hold, together = asyncio.Event(), asyncio.Barrier(3)
        cut = Reply(pieces=("par",), reason="length")
        async with (
            openai_server(replace(cut, hold=hold), replace(cut, hold=together)) as up,
            router(in_process, tmp_path, provider("up", up.endpoint), wrapped=CachingRouter) as own,
        ):
            tasks = [asyncio.create_task(answered(own, ask())) for _ in range(4)]
            await up.asked.wait()
            hold.set()
            found = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        assert not any(finish.cached for _, finish in found)

    async def test_do_not_wait_for_ever_for_a_slow_reader(self, tmp_path):
        impatient = partial(CachingRouter, patience=0.05)
        async with (
            openai_server(FIRST, SECOND) as up,
            router(in_process, tmp_path, provider("up", up.endpoint), wrapped=impatient) as models,
            aclosing(models.stream(ask())) as steps,
        ):
            await anext(steps)  # and reads no further
            assert (await streamed(models, ask()))[0] == "second"

    async def test_may_leave_without_harm_to_the_first_one(self, opened, answered):
        hold = asyncio.Event()
        async with (
            openai_server(replace(FIRST, hold=hold)) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            first = asyncio.create_task(answered(models, ask()))
            await up.asked.wait()
            waiting = asyncio.create_task(answered(models, ask()))
            await asyncio.sleep(0)
            waiting.cancel()
            hold.set()
            assert (await first)[0] == "first"


OTHERS = {
    "tenant": ask(account=Account("other")),
    "messages": ask(messages=(says(Role.USER, "hello!"),)),
    "role": ask(messages=(says(Role.SYSTEM, "hello"),)),
    "picture": ask(messages=(Message(Role.USER, (Image(data=b"x"),)),)),
    "other picture": ask(messages=(Message(Role.USER, (Image(data=b"y"),)),)),
    "tools": ask(tools=(WEATHER,)),
    "sampling": ask(sampling=Sampling(temperature=0.5)),
    "extra": ask(sampling=Sampling(extra={"top_k": 1})),
    "schema": ask(output_schema={"type": "object"}),
    "strategy": ask(strategy="round_robin"),
    "provider": ask(candidates=(replace(REF, provider="b"),)),
    "model": ask(candidates=(replace(REF, model="b"),)),
    "endpoint": ask(candidates=(replace(REF, endpoint="http://b"),)),
    "its sampling": ask(candidates=(replace(REF, sampling=Sampling(seed=1)),)),
    "key": ask(candidates=(replace(REF, api_key="k"),)),
    "other key": ask(candidates=(replace(REF, api_key="l"),)),
    "key's variable": ask(candidates=(replace(REF, api_key_env="K"),)),
    "another candidate": ask(candidates=(REF, REF)),
}
SAME = {
    "age": ask(cache_ttl=5.0),
    "hedge": ask(hedge=True),
    "account": ask(account=Account(principal="p", agent="a", session="s", run="r")),
    "timeout": ask(candidates=(replace(REF, timeout=3.0),)),
}


def test_requests_that_differ_in_anything_that_matters_share_nothing():
    keys = [key_of(request) for request in (ask(), *OTHERS.values())]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", SAME)
def test_requests_are_the_same_whoever_asks_how_urgently(name):
    assert key_of(SAME[name]) == key_of(ask())


def test_a_key_does_not_stand_in_what_is_kept():
    key = key_of(ask(candidates=(replace(REF, api_key="secret"),)))
    assert key is not None
    assert len(key) == 32


def test_the_order_of_a_schemas_keys_does_not_matter():
    one, other = {"type": "object", "title": "x"}, {"title": "x", "type": "object"}
    assert key_of(ask(output_schema=one)) == key_of(ask(output_schema=other))


@pytest.mark.parametrize("ttl", [-1.0, float("nan"), float("inf")])
async def test_an_age_that_is_none_is_refused(opened, answered, ttl):
    async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
        with pytest.raises(InvalidInput) as caught:
            await answered(models, ask(cache_ttl=ttl))
    assert [violation.field for violation in caught.value.violations] == ["cache_ttl_seconds"]
    assert up.requests == []
